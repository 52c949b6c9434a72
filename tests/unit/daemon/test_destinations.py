"""What may stand on a list, what may be asked for, and which entry lets what through."""

from __future__ import annotations

import pytest

from daemon.destinations import Destination, destination, entry, granting

LIST = ("pypi.org:443", "*.example.org:443", "*.example.org:8443")


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("pypi.org:443", "pypi.org", 443),
        ("PyPI.Org:443", "pypi.org", 443),
        ("xn--bcher-kva.example:8443", "xn--bcher-kva.example", 8443),
        ("a-1.b.c3.example:1", "a-1.b.c3.example", 1),
        ("r3---sn-4g5e6nz7.example:65535", "r3---sn-4g5e6nz7.example", 65535),
        ("3com.example:80", "3com.example", 80),
    ],
)
def test_a_name_and_a_port_are_a_destination(text: str, host: str, port: int) -> None:
    assert destination(text) == Destination(host, port)


@pytest.mark.parametrize(
    "text",
    [
        *("", ":443", "pypi.org", "pypi.org:", "pypi.org:0", "pypi.org:65536", "pypi.org:0443"),
        *(
            "pypi.org:+443",
            "pypi.org: 443",
            "pypi.org:44 3",
            "pypi.org:443\n",
            "pypi.org:\uff14\uff14\uff13",
        ),
        *("pypi.org:99999999999999999999", "pypi.org:443:443", "pypi.org:-1", "pypi.org:0x1bb"),
        # Addresses in all their spellings.
        *("127.0.0.1:443", "127.1:443", "2130706433:443", "0x7f000001:443", "0x7f.0.0.1:443"),
        *("0177.0.0.1:443", "127.0.0.0x1:443", "1.2.3.4.5:443", "host.0x:443", "example.0x7F:443"),
        *("example.123:443", "127.0.0.1.:443", "[::1]:443", "::1:443", "[::ffff:127.0.0.1]:443"),
        *(
            "[fe80::1%25eth0]:443",
            "\u2460\u2461\u2466.\u24ea.\u24ea.\u2460:443",
            "127\u30020\u30020\u30021:443",
        ),
        # No name that every program reads alike.
        *("localhost:443", "pypi.org.:443", ".pypi.org:443", "pypi..org:443", "-a.example:443"),
        *("a-.example:443", "a_b.example:443", "*.example:443", "a b.example:443"),
        *("user@pypi.org:443", "user:pass@pypi.org:443", "https://pypi.org:443", "pypi.org/x:443"),
        *(
            "pypi.org\0.example.org:443",
            "pypi.org\r\nHost: x:443",
            "pypi.org%00:443",
            "pypi.org#:1",
        ),
        *(
            "bücher.example:443",
            "PyPI.or\u0261:443",
            "pypi.org\u200b:443",
            "\u212aelvin.example:443",
        ),
        *(f"{'a' * 64}.example:443", f"{'a.' * 126}example:443"),
    ],
)
def test_what_could_be_read_in_two_ways_is_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"write|highest"):
        destination(text)


@pytest.mark.parametrize(
    ("asked", "by"),
    [
        ("pypi.org:443", "pypi.org:443"),
        ("a.example.org:443", "*.example.org:443"),
        ("b.a.example.org:8443", "*.example.org:8443"),
        ("pypi.org:80", None),
        ("pypi.org.evil.example:443", None),
        ("notpypi.org:443", None),
        ("www.pypi.org:443", None),
        ("example.org:443", None),
        ("notexample.org:443", None),
        ("a.example.org:80", None),
        ("a.example.org.evil.example:443", None),
    ],
)
def test_only_what_an_entry_names_is_let_through(asked: str, by: str | None) -> None:
    assert granting(LIST, destination(asked)) == by


def test_an_empty_list_lets_nothing_through() -> None:
    assert granting((), destination("pypi.org:443")) is None


def test_an_entry_is_kept_as_it_is_compared() -> None:
    assert entry("PyPI.org:443") == "pypi.org:443"
    assert entry("*.Example.org:443") == "*.example.org:443"


@pytest.mark.parametrize(
    "text",
    ["*:443", "*.org:443", "pypi.org", "*.*.example.org:443", "a*.example.org:443", "10.0.0.1:443"],
)
def test_an_entry_that_is_none_is_told_with_what_one_is(text: str) -> None:
    with pytest.raises(ValueError, match="write") as told:
        entry(text)
    assert str(told.value).startswith(repr(text))
