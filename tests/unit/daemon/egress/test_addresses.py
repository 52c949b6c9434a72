"""Which addresses lie outside."""

from __future__ import annotations

import pytest

from daemon.egress.addresses import is_outside


@pytest.mark.parametrize(
    "address",
    [
        *("1.1.1.1", "151.101.0.223", "172.15.255.255", "172.32.0.1", "100.63.255.255"),
        *("100.128.0.1", "192.167.0.1", "223.255.255.255", "2606:4700::1111"),
        *("2a04:4e42::223", "2620:fe::fe"),
    ],
)
def test_hosts_that_everybody_can_reach_are_outside(address: str) -> None:
    assert is_outside(address)


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",  # noqa: S104 - nothing is bound to it here
        *("127.0.0.1", "127.255.255.254", "0.1.2.3", "10.0.0.1", "172.16.0.1"),
        *("172.31.255.255", "192.168.1.1", "169.254.169.254", "169.254.170.2", "100.64.0.1"),
        *("100.100.100.200", "192.0.0.192", "168.63.129.16", "224.0.0.1", "239.255.255.255"),
        *("240.0.0.1", "255.255.255.255", "198.18.0.1", "192.0.2.1", "198.51.100.1"),
        *("203.0.113.1", "192.88.99.1"),
        *("::", "::1", "fe80::1", "fe80::1%eth0", "fec0::1", "fc00::1", "fd00:ec2::254"),
        *("ff02::1", "::ffff:127.0.0.1", "::ffff:1.1.1.1", "::1.1.1.1", "64:ff9b::7f00:1"),
        *("64:ff9b::101:101", "64:ff9b:1::1", "2002:7f00:1::1", "2001::1", "2001:2::1"),
        *("2001:db8::1", "3fff::1", "100::1", "5f00::1", "4000::1", "2606:4700::1111%eth0"),
        *("", "localhost", "127.1", "0x7f000001", "1.1.1.1 ", "01.1.1.1"),
    ],
)
def test_nothing_nearer_is(address: str) -> None:
    assert not is_outside(address)


def test_an_address_of_this_machine_s_own_is_nearer_than_its_number_says() -> None:
    assert is_outside("1.1.1.1", "192.168.1.7")
    assert not is_outside("1.1.1.1", "1.1.1.1")
