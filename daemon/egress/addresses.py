"""Which addresses lie outside: those of hosts that everybody can reach, and nothing nearer. Pure.

The tables are IANA's special-purpose registries (https://www.iana.org/assignments/
iana-ipv4-special-registry and iana-ipv6-special-registry), read strictly, and not `is_global`,
whose meaning changed between versions of Python.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address

_NEARER = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",  # shared by providers; a cloud's metadata at 100.100.100.200
        "127.0.0.0/8",
        "168.63.129.16/32",  # the machine's own platform, in Azure
        "169.254.0.0/16",  # link-local; metadata of most clouds
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",  # relays to IPv6
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # broadcast, too
    )
)
# All else in IPv6 is loopback, link-local, private, multicast, or holds an IPv4 address: mapped,
# compatible, or behind a translator (64:ff9b::/96).
_GLOBAL = IPv6Network("2000::/3")
_NOT_THERE = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # protocols, among them Teredo, which holds an IPv4 address
        "2001:db8::/32",
        "2002::/16",  # 6to4, which holds an IPv4 address
        "3fff::/20",
    )
)


def is_outside(there: str, here: str | None = None) -> bool:
    """Whether a connection may go to an address. `here` is its own end, once there is one: where
    both are the same, the address is this machine's.
    """
    try:
        address = ip_address(there)
    except ValueError:
        return False
    if there == here:
        return False
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _NEARER)
    if address.scope_id is not None or address not in _GLOBAL:
        return False
    return not any(address in network for network in _NOT_THERE)
