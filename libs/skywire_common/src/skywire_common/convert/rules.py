"""skywire.setup_node.v1 InstalledRule and NodeRules; `rules`."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from skywire.setup_node.v1 import setup_node_pb2

from skywire_common import rules
from skywire_common.convert import fields
from skywire_common.errors import DecodeError
from skywire_common.keys import check_port
from skywire_common.routes import MAX_HOPS
from skywire_common.rules import AppRule, NodeRules, PlacedRule, Rule

# What one set-up has on one node: two rules for each of two routes and their successors of a reroute.
MAX_RULES_PER_NODE = 16
# Every node of two routes that have no node in common but their ends.
MAX_NODES = 2 * MAX_HOPS


def placed_rule_to(placed: PlacedRule) -> setup_node_pb2.InstalledRule:
    """Return the message of a rule under its route id."""
    return setup_node_pb2.InstalledRule(
        route_id=placed.route_id,
        rule=placed.rule.encode(),
        from_transport=b"" if placed.from_transport is None else placed.from_transport.bytes,
    )


def placed_rule_from(message: setup_node_pb2.InstalledRule, name: str = "rule") -> PlacedRule:
    """Return a rule under its route id; raises DecodeError."""
    try:
        rule = rules.decode(message.rule)
    except DecodeError as error:
        raise DecodeError(f"{name}.rule: {error}") from error
    _check(rule, f"{name}.rule")
    origin = message.from_transport
    return PlacedRule(
        fields.route_id(message.route_id, f"{name}.route_id"),
        rule,
        fields.transport_id(origin, f"{name}.from_transport") if origin else None,
    )


def _check(rule: Rule, name: str) -> None:
    """Check what the layout of a rule lets through: ports and ids of 0, times that no clock will show."""
    fields.within(rule.expiry, 0, fields.MAX_TIME, f"{name}: expiry")
    if isinstance(rule, AppRule):
        fields.route_id(rule.response_id, f"{name}: response id")
        check_port(rule.remote.port)
        check_port(rule.local_port)
    else:
        fields.route_id(rule.next_id, f"{name}: next id")


def placed_rules_to(placed: Iterable[PlacedRule]) -> list[setup_node_pb2.InstalledRule]:
    """Return the messages of several rules."""
    return [placed_rule_to(rule) for rule in placed]


def placed_rules_from(
    messages: Collection[setup_node_pb2.InstalledRule], name: str = "rules"
) -> tuple[PlacedRule, ...]:
    """Return at most MAX_RULES_PER_NODE rules; raises DecodeError."""
    found = fields.at_most(messages, MAX_RULES_PER_NODE, name)
    return tuple(placed_rule_from(message, f"{name}[{index}]") for index, message in enumerate(found))


def route_ids_from(numbers: Collection[int], name: str = "route_ids") -> tuple[int, ...]:
    """Return at most MAX_RULES_PER_NODE route ids, none of them 0; raises DecodeError."""
    found = fields.at_most(numbers, MAX_RULES_PER_NODE, name)
    return tuple(fields.route_id(number, f"{name}[{index}]") for index, number in enumerate(found))


def node_rules_to(nodes: Iterable[NodeRules]) -> list[setup_node_pb2.NodeRules]:
    """Return the messages that say which rules a set-up has on which node."""
    return [setup_node_pb2.NodeRules(public_key=node.public_key, route_ids=node.route_ids) for node in nodes]


def node_rules_from(messages: Collection[setup_node_pb2.NodeRules], name: str = "rules") -> tuple[NodeRules, ...]:
    """Return the rules of at most MAX_NODES nodes, none named twice; raises DecodeError."""
    found = fields.at_most(messages, MAX_NODES, name)
    nodes = tuple(
        NodeRules(
            fields.public_key(message.public_key, f"{name}[{index}].public_key"),
            route_ids_from(message.route_ids, f"{name}[{index}].route_ids"),
        )
        for index, message in enumerate(found)
    )
    if len({node.public_key for node in nodes}) != len(nodes):
        raise DecodeError(f"{name} name a node twice")
    return nodes
