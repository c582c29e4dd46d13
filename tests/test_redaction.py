"""Test that no secret of a URL is left in a text."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wds_bone.errors import ConfigError
from wds_bone.redaction import redact


@pytest.mark.fault("I2")
@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("https://host/a.tar?sig=CANARY", "https://host/a.tar?..."),
        ("https://host/a.tar#CANARY", "https://host/a.tar?..."),
        ("https://me:CANARY@host:8080/a.tar", "https://host:8080/a.tar"),
        ("s3://CANARY:CANARY@bucket/a b.tar?versionId=CANARY", "s3://bucket/a b.tar?..."),
        ("https://me:CAN#ARY@host/a.tar", "https://me:..."),
        ("https://me:CAN/ARY@host/a.tar", "https://me:..."),
        ("http://host/{000..011}.tar?a=CANARY&b=CANARY", "http://host/{000..011}.tar?..."),
        ("invalid value: 'https://host/a.tar?sig=CANARY', got 3", "invalid value: 'https://host/a.tar?...', got 3"),
        (
            "http://host/a?s=CANARY: cannot be read (http://host/b?s=CANARY).",
            "http://host/a?...: cannot be read (http://host/b?...).",
        ),
        ("host/a.tar?X-Amz-Date=1&X-Amz-Signature=CANARY&x=1", "host/a.tar?..."),
        ("url: /a.tar?se=1&SIG=CANARY (Caused by x)", "url: /a.tar?... (Caused by x)"),
        ("two\nhttps://host/a?CANARY\nlines", "two\nhttps://host/a?...\nlines"),
    ],
)
def test_secrets_of_urls_are_removed(text: str, redacted: str) -> None:
    assert redact(text) == redacted
    assert redact(redacted) == redacted


@pytest.mark.parametrize(
    "text",
    [
        "shards/train-?????.tar: is missing",
        "http://host:8000/a.tar: cannot be read",
        "http://[::1]:8000/a.tar",
        "hf://datasets/me/films@main/train.tar",
        "file:///data/train-0000?.tar",
        "expected: 3; got: 4",
        "http://host:",
    ],
)
def test_other_texts_are_not_changed(text: str) -> None:
    assert redact(text) == text


@given(st.text(alphabet="ab:/?#@.&= '\n", max_size=60))
def test_a_text_is_redacted_once_and_for_all(text: str) -> None:
    once = redact(f"http://{text}")
    assert redact(once) == once


@pytest.mark.fault("I2")
def test_an_error_shows_no_secret_of_a_url() -> None:
    url = "https://me:CANARY@host/a.tar?sig=CANARY"
    error = ConfigError(f"{url}: is wrong", expected=[url], got=ValueError(url), do=f"replace {url}")
    for shown in (error, pickle.loads(pickle.dumps(error))):
        assert "CANARY" not in f"{shown} {shown!r} {shown.problem}"
        assert "https://host/a.tar?...: is wrong" in str(shown)
