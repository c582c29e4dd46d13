"""The table of faults says what the tests prove, and every row has a test."""

from tests.faults import DOCUMENT, document, proofs, rows


def test_every_row_of_the_fault_catalogue_has_a_test() -> None:
    assert {proof.row for proof in proofs()} == rows()


def test_the_document_of_faults_is_up_to_date() -> None:
    assert DOCUMENT.read_text() == document(), "run `python -m tests.faults`"
