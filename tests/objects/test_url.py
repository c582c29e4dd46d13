"""Addresses of objects never show what is secret in them."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wds_bone.errors import ConfigError
from wds_bone.objects.url import SCHEMES, Url, is_url, parse_url

SECRET = "https://user:canary@host:8443/set/train%20a-000000.tar?X-Amz-Signature=canary&b=1#canary"


@pytest.mark.fault("I2")
def test_only_its_secret_text_shows_what_is_secret():
    url = parse_url(SECRET)
    for shown in (str(url), repr(url), str(url.parent), repr(url / "x"), f"{url}", str([url]), str({url: 1})):
        assert "canary" not in shown
        assert "X-Amz" not in shown
    assert str(url) == "https://host:8443/set/train%20a-000000.tar?..."
    assert url.secret_text() == SECRET.partition("#")[0]


def test_its_names_are_those_of_a_path_and_it_keeps_its_signature():
    url = parse_url(SECRET)
    assert url.name == "train a-000000.tar"
    assert (url.parent / "manifest.json").secret_text() == (
        "https://user:canary@host:8443/set/manifest.json?X-Amz-Signature=canary&b=1"
    )
    assert (parse_url("s3://bucket") / "a.tar").parent == parse_url("s3://bucket/")
    assert parse_url("s3://bucket").name == ""


@pytest.mark.fault("I1", "I2")
@pytest.mark.parametrize(
    "text",
    [
        "ftp://u:canary@h/a",
        "pipe://canary",
        "https://",
        "https://u:canary@/a",
        "http://[canary/a",
        "http://h:canary/a",
        "http://h:99999/a",
        "a.tar",
    ],
)
def test_what_cannot_be_read_is_refused_without_its_secrets(text: str):
    with pytest.raises(ConfigError, match="do: ") as refused:
        parse_url(text)
    assert "canary" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_a_scheme_has_any_case():
    assert parse_url("HTTPS://host/a.tar") == parse_url("https://host/a.tar")
    assert not is_url("pipe:cat a.tar")
    assert not is_url("folder/a.tar")


@pytest.mark.parametrize(
    "path", ["a%2Fb.tar", "o/folder%2Fb.tar", "a%20b", "%C3%B6.tar", "a+b=c&d.tar", "a%25b", "a%3Fb"]
)
def test_a_path_is_sent_as_it_was_typed(path: str):
    assert parse_url(f"http://host/{path}").secret_text() == f"http://host/{path}"


urls = st.builds(
    Url,
    st.sampled_from(SCHEMES),
    st.builds(str.__add__, st.text("az09.-", min_size=1, max_size=20), st.sampled_from(["", ":1", ":9000"])),
    st.text(st.characters(codec="utf-8"), max_size=30)
    .map(lambda text: text.strip("/"))
    .filter(lambda text: "%2F" not in text.upper()),
    st.text("AZaz09=&%._-", max_size=20),
    st.text("az09:%", max_size=20),
)


@given(url=urls)
def test_its_secret_text_is_the_same_url(url: Url):
    assert parse_url(url.secret_text()) == url
    assert pickle.loads(pickle.dumps(url)) == url
