"""The address that `sofa view` prints can be opened by somebody."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

import pytest
from aiohttp.test_utils import TestClient, TestServer

from sofa_engine.errors import InputError
from sofa_web.config import ViewConfig
from sofa_web.gateway import Gateway
from web_tools import run_to_end


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_listening_everywhere_names_this_machine_instead_of_the_wildcard(host):
    address = urlsplit(ViewConfig(host=host, behind_proxy=True).address(8080))
    assert address.port == 8080
    try:
        assert not ipaddress.ip_address(address.hostname).is_unspecified
    except ValueError:  # a machine without a network of its own has a name alone
        assert address.hostname


@pytest.mark.parametrize(
    ("host", "shown"), [("127.0.0.1", "localhost"), ("::1", "localhost"), ("mri.example", "mri.example")]
)
def test_any_other_host_is_named_as_it_was_given(host, shown):
    assert urlsplit(ViewConfig(host=host).address(8080)).netloc == f"{shown}:8080"
    assert ViewConfig(host="2001:db8::1").address(80).startswith("http://[2001:db8::1]:80/?token=")


def test_behind_a_proxy_the_proxys_address_is_the_one_to_open():
    config = ViewConfig(behind_proxy=True, public_url="https://mri.example/sofa/", token="t" * 16)
    config.check()
    assert config.address(8080) == "https://mri.example/sofa/?token=" + "t" * 16
    for wrong in ("mri.example/sofa", "ftp://mri.example", "https://", "https://mri.example/?token=1"):
        with pytest.raises(InputError, match="no address of a page"):
            ViewConfig(public_url=wrong).check()


@pytest.mark.parametrize(
    ("origin", "status"), [("https://mri.example", 401), ("http://127.0.0.1", 403), ("https://evil.example", 403)]
)
def test_a_proxy_that_hides_its_name_works_where_the_public_address_is_said(origin, status):
    async def ask() -> int:
        config = ViewConfig(behind_proxy=True, public_url="https://mri.example/sofa")
        async with TestClient(TestServer(Gateway(config, None).app())) as client:
            # Without the cookie, so that who gets past the look at the origin is asked for the token.
            return (await client.get("/", headers={"Origin": origin})).status

    assert run_to_end(ask()) == status
