from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labd.core.errors import ConfigError
from labd.wire.broker_url import Address, parse_broker_url


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("mqtt://lab", Address("lab", 1883)),
        ("mqtt://127.0.0.1:1884/", Address("127.0.0.1", 1884)),
        ("mqtt://[::1]:1884", Address("::1", 1884)),
        ("mqtt://ann:p%40ss:word@lab", Address("lab", 1883, "ann", "p@ss:word")),
    ],
)
def test_addresses(url: str, address: Address) -> None:
    assert parse_broker_url(url) == address


@pytest.mark.parametrize(
    "url",
    [
        *("", "lab", "lab:1883", "http://lab", "mqtt://", "mqtt://lab:x", "mqtt://lab:99999"),
        *("mqtt://lab:0", "mqtt://lab/x", "mqtt://lab?x=1", "mqtt://[::1"),
    ],
)
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(ConfigError, match="write mqtt://host:port"):
        parse_broker_url(url)


def test_a_password_is_never_shown() -> None:
    address = parse_broker_url("mqtt://ann:secret@lab")
    assert "secret" not in f"{address} {address!r}"
    for url in ("mqtts://ann:secret@lab", "mqtt://ann:secret@lab:x", "mqtt://ann:secret@lab/x"):
        with pytest.raises(ConfigError) as caught:
            parse_broker_url(url)
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize("password", ["pa/ss", "pa?ss", "pa#ss"])
def test_a_raw_separator_in_a_password_is_named(password: str) -> None:
    with pytest.raises(ConfigError, match="%2F %3F %23") as caught:
        parse_broker_url(f"mqtt://ann:{password}@lab")
    assert "pa" not in caught.value.what.replace("password", "")


@given(st.text())
def test_any_text_is_an_address_or_a_config_error(text: str) -> None:
    for url in (text, f"mqtt://{text}"):
        with suppress(ConfigError):
            parse_broker_url(url)
