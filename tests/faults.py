"""Write docs/faults.md, which says what happens when something is wrong: `python -m tests.faults`.

In: tests/faults.md, a paragraph for each row of the catalogue, and the tests marked with `@pytest.mark.fault("A1")`.
Out: the same text, with the tests that prove a row listed below it; a test's name is its sentence.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

TESTS = Path(__file__).parent
CATALOGUE = TESTS / "faults.md"
DOCUMENT = TESTS.parent / "docs" / "faults.md"


class Proof(NamedTuple):
    """A row of the catalogue and a test that proves it: its file below `tests/`, and its name."""

    row: str
    file: str
    test: str


def rows() -> set[str]:
    """Return the names of all rows of the catalogue."""
    return set(re.findall(r"^\*\*(\w+)\*\* ", CATALOGUE.read_text(), re.MULTILINE))


def proofs() -> list[Proof]:
    """Return every pair of a row and a marked test, in the order of the files."""
    found = []
    for path in sorted(TESTS.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                found += [Proof(row, str(path.relative_to(TESTS)), node.name) for row in _rows_of(node)]
    return found


def document() -> str:
    """Return the contents of docs/faults.md."""
    marked = proofs()

    def with_tests(paragraph: re.Match[str]) -> str:
        lines = [f"- {_sentence(proof.test)} (`{proof.file}`)\n" for proof in marked if proof.row == paragraph[1]]
        return f"{paragraph[0]}\n{''.join(lines)}"

    return re.sub(r"^\*\*(\w+)\*\* .*\n", with_tests, CATALOGUE.read_text(), flags=re.MULTILINE)


def _rows_of(node: ast.FunctionDef | ast.ClassDef) -> Iterator[str]:
    for call in (decorator for decorator in node.decorator_list if isinstance(decorator, ast.Call)):
        if ast.unparse(call.func) == "pytest.mark.fault":
            yield from (ast.literal_eval(row) for row in call.args)


def _sentence(test: str) -> str:
    return test.removeprefix("test_").replace("_", " ")


if __name__ == "__main__":
    DOCUMENT.write_text(document())
