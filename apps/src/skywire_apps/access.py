"""Where an exit lets others connect to: lists of what is allowed and denied, without I/O.

An entry is a network, an address, a name or a word, with ports if not all are meant:

    public              every address that is not in SPECIAL
    10.1.0.0/16         a network; 192.0.2.7 and [2001:db8::7] are networks of one address
    example.org         this name; *.example.org every name below it
    ...:443             only this port; :80,443,8000-8999 for several; an IPv6 network goes in brackets then

Deny wins over allow. Addresses in SPECIAL (loopback, private, link-local, ...) are reached only by an entry that means
them: a network that lies wholly in SPECIAL, or a name without a star. So 0.0.0.0/0 opens nobody's home network by
accident.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from skywire_common.errors import DecodeError
from skywire_common.keys import parse_port

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

PUBLIC = "public"
MAX_NAME = 253
MAX_ENTRIES = 4_096

# IANA's special-purpose registries: what is not the public internet.
SPECIAL: tuple[Network, ...] = tuple(
    map(
        ip_network,
        (
            "0.0.0.0/8",
            "10.0.0.0/8",
            "100.64.0.0/10",
            "127.0.0.0/8",
            "169.254.0.0/16",
            "172.16.0.0/12",
            "192.0.0.0/24",
            "192.0.2.0/24",
            "192.88.99.0/24",
            "192.168.0.0/16",
            "198.18.0.0/15",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/4",
            "240.0.0.0/4",
            "::/127",
            "64:ff9b:1::/48",
            "100::/64",
            "2001::/23",
            "2001:db8::/32",
            "3fff::/20",
            "5f00::/16",
            "fc00::/7",
            "fe80::/10",
            "fec0::/10",
            "ff00::/8",
        ),
    )
)
_NAT64 = IPv6Network("64:ff9b::/96")
_COMPATIBLE = IPv6Network("::/96")


@dataclass(frozen=True)
class Entry:
    """One entry of a list: at most one of network and name; neither is `public`. No ports means all."""

    network: Network | None = None
    name: str = ""
    below: bool = False
    ports: tuple[tuple[int, int], ...] = ()

    @classmethod
    def parse(cls, text: str) -> Entry:
        """Read an entry; raises DecodeError that says what is wrong with it."""
        host, ports = _split(text)
        if host == PUBLIC:
            return cls(ports=ports)
        try:
            network = ip_network(host, strict=False)
        except ValueError:
            if "/" in host or ":" in host:
                raise DecodeError(f"{text!r}: {host!r} is no network") from None
            below = host.startswith("*.")
            return cls(name=plain_name(host[2:] if below else host), below=below, ports=ports)
        return cls(network=network, ports=ports)

    @property
    def means_special(self) -> bool:
        """Whether this entry opens special addresses when it allows."""
        if self.network is None:
            return bool(self.name) and not self.below
        return any(_within(self.network, special) for special in SPECIAL)

    def matches(self, name: str, address: Address, port: int) -> bool:
        """Tell whether a connection to `address`, asked for as `name` (empty if not by name), is meant."""
        if self.ports and not any(first <= port <= last for first, last in self.ports):
            return False
        if self.network is not None:
            return any(one.version == self.network.version and one in self.network for one in meant(address))
        if self.name:
            return name == self.name if not self.below else name.endswith("." + self.name)
        return not is_special(address)


@dataclass(frozen=True)
class Access:
    """Which connections an exit makes for others."""

    allow: tuple[Entry, ...] = (Entry(),)
    deny: tuple[Entry, ...] = ()

    @classmethod
    def parse(cls, allow: Sequence[str], deny: Sequence[str]) -> Access:
        """Read both lists; raises DecodeError."""
        if max(len(allow), len(deny)) > MAX_ENTRIES:
            raise DecodeError(f"a list has at most {MAX_ENTRIES} entries")
        return cls(tuple(map(Entry.parse, allow)), tuple(map(Entry.parse, deny)))

    def allows(self, name: str, address: Address, port: int) -> bool:
        """Decide about one connection."""
        if any(entry.matches(name, address, port) for entry in self.deny):
            return False
        special = is_special(address)
        return any(entry.matches(name, address, port) for entry in self.allow if entry.means_special or not special)


def meant(address: Address) -> tuple[Address, ...]:
    """Return the address and the IPv4 addresses that an IPv6 one stands for (mapped, NAT64, 6to4, Teredo)."""
    if isinstance(address, IPv4Address):
        return (address,)
    inner = address.ipv4_mapped or address.sixtofour
    if inner is None and (address in _NAT64 or (address in _COMPATIBLE and int(address) > 1)):
        inner = IPv4Address(int(address) & 0xFFFFFFFF)
    return (address,) if inner is None else (address, inner)


def is_special(address: Address) -> bool:
    """Tell whether an address, or one that it stands for, is not of the public internet."""
    return any(one in special for one in meant(address) for special in SPECIAL if one.version == special.version)


def plain_name(text: str) -> str:
    """Return a host name in the form that is compared: lower case, no dot at the end; raises DecodeError."""
    name = text.rstrip(".").lower()
    if not 1 <= len(name) <= MAX_NAME or not name.isascii():
        raise DecodeError(f"{text[:80]!r} is no host name")
    for label in name.split("."):
        if not 1 <= len(label) <= 63 or not label.replace("-", "").replace("_", "").isalnum():
            raise DecodeError(f"{text[:80]!r} is no host name")
    return name


def literal(host: str) -> Address | None:
    """Return the address if the host is one and not a name."""
    try:
        return ip_address(host)
    except ValueError:
        return None


def parse_target(text: str) -> tuple[str, int]:
    """Read HOST:PORT, an IPv6 address in brackets; raises DecodeError."""
    host, colon, port = text.rpartition(":")
    if not colon:
        raise DecodeError(f"{text[:80]!r} is not HOST:PORT")
    try:
        number = parse_port(port)
    except DecodeError as error:
        raise DecodeError(f"{text[:80]!r} is not HOST:PORT: {error}") from error
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise DecodeError(f"{text[:80]!r}: an IPv6 address goes in brackets, [::1]:80")
    address = literal(host)
    return (plain_name(host) if address is None else str(address)), number


def show_target(host: str, port: int) -> str:
    """Return HOST:PORT."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _split(text: str) -> tuple[str, tuple[tuple[int, int], ...]]:
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        # [fc00::]/7 is written by hand as often as [fc00::/7].
        if rest.startswith("/"):
            mask, colon, ports = rest.partition(":")
            host, rest = host + mask, colon + ports
        if rest and not rest.startswith(":"):
            raise DecodeError(f"{text!r}: after the bracket comes :PORTS")
        return host, _ports(text, rest[1:]) if rest else ()
    if text.count(":") == 1:
        host, _, ports = text.partition(":")
        return host, _ports(text, ports)
    return text, ()


def _ports(text: str, ports: str) -> tuple[tuple[int, int], ...]:
    spans = []
    for part in ports.split(","):
        first, dash, last = part.partition("-")
        last = last if dash else first
        try:
            span = parse_port(first), parse_port(last)
        except DecodeError as error:
            raise DecodeError(f"{text[:80]!r}: ports are as in 80,443,8000-8999: {error}") from error
        if span[0] > span[1]:
            raise DecodeError(f"{text[:80]!r}: the lower port comes first")
        spans.append(span)
    return tuple(spans)


def _within(network: Network, special: Network) -> bool:
    if isinstance(network, IPv4Network):
        return isinstance(special, IPv4Network) and network.subnet_of(special)
    return isinstance(special, IPv6Network) and network.subnet_of(special)
