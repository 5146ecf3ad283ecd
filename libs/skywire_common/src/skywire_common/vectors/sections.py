"""What must hold of each kind of vector; the table at the end names the sections of the file.

Each function reads all fields of one vector and compares what this code makes of some with the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from skywire_common import entries, http_auth, noise, packet, rules
from skywire_common.curve import check_point, verify
from skywire_common.errors import DecodeError
from skywire_common.keys import Addr
from skywire_common.vectors.check import Check
from skywire_common.vectors.fields import Fields
from skywire_common.vectors.frames import check_app_frames

Ciphers = tuple[noise.Cipher, noise.Cipher]
_MESSAGES: Mapping[noise.Pattern, int] = {noise.Pattern.KK: 2, noise.Pattern.XK: 3}


def check_keys(vector: Fields) -> None:
    """The public key derives from the secret key."""
    vector.expect_octets("public_key", vector.secret_key("secret_key").public)


def check_ecdh(vector: Fields) -> None:
    """Both keys give the shared secret, 33 bytes."""
    public = check_point(vector.public_key("public_key"))
    vector.expect_octets("dh_output", vector.secret_key("secret_key").ecdh(public))


def check_signatures(vector: Fields) -> None:
    """The key recovered from the signature is the public key. Signing draws a nonce, so it is not compared."""
    _expect_signed(vector, vector.octets("payload"))


def check_rules(vector: Fields) -> None:
    """The fields give the bytes and the bytes give the fields."""
    kind = vector.text("type")
    rule: rules.Rule
    expiry = vector.number("expiry")
    if kind == "app":
        remote = Addr(vector.public_key("remote_pk"), vector.number("remote_port", 2))
        rule = rules.AppRule(expiry, vector.number("resp_rid", 4), remote, vector.number("local_port", 2))
    elif kind == "forward":
        rule = rules.ForwardRule(expiry, vector.number("next_rid", 4), _uuid(vector, "next_tid"))
    else:
        raise DecodeError(f"type is app or forward, not {kind[:40]!r}")
    vector.expect("encoded", rules.decode(vector.octets("encoded")), rule)
    vector.expect_octets("encoded", rule.encode())


def check_packets(vector: Fields) -> None:
    """The fields give the bytes and the bytes give the fields."""
    made = packet.Packet(vector.number("route_id", 4), vector.octets("payload"))
    vector.expect("encoded", packet.decode(vector.octets("encoded")), made)
    vector.expect_octets("encoded", made.encode())


def check_transport_ids(vector: Fields) -> None:
    """Edges in either order, type and visibility give the id."""
    edge_a, edge_b = vector.public_key("edge_a"), vector.public_key("edge_b")
    kind, public = vector.text("type"), vector.boolean("public")
    wanted = vector.text("transport_id")
    vector.expect("transport_id", wanted, str(entries.transport_id(edge_a, edge_b, kind, public)))
    vector.expect("transport_id", wanted, str(entries.transport_id(edge_b, edge_a, kind, public)))


def check_signed_entries(vector: Fields) -> None:
    """The JSON reads as an entry that both keys signed, and is written again to the byte."""
    text = vector.text("json")
    signed = entries.signed_entry_from_json(text)
    signed.check()
    vector.expect("json", text, signed.to_json().decode())
    vector.expect_octets("to_sign", signed.entry.to_sign())
    secrets = (vector.secret_key("secret_a"), vector.secret_key("secret_b"))
    edge_a, edge_b = (secret.public for secret in secrets)
    made = entries.Entry.between(edge_a, edge_b, signed.entry.kind, signed.entry.public)
    vector.expect("secret_a", signed.entry, made)
    again = entries.SignedEntry.unsigned(made)
    for secret in secrets:
        again = again.sign(secret)
    again.check()


def check_http_auth(vector: Fields) -> None:
    """Body and nonce give the payload, and the key signed it."""
    made = http_auth.signed_payload(vector.text("body").encode(), vector.number("nonce"))
    vector.expect_octets("signed_payload", made)
    _expect_signed(vector, made)


def check_noise(vector: Fields) -> None:
    """Both sides, from the given ephemeral keys, exchange these messages and then these ciphertexts."""
    pattern = _pattern(vector)
    keys = {name: vector.secret_key(f"{name}_static_secret") for name in ("initiator", "responder")}
    for name, secret in keys.items():
        vector.expect_octets(f"{name}_static_public", secret.public)
    initiator = noise.Handshake(
        pattern,
        initiator=True,
        secret=keys["initiator"],
        remote=keys["responder"].public,
        ephemeral=vector.secret_key("initiator_ephemeral_secret"),
    )
    responder = noise.Handshake(
        pattern,
        initiator=False,
        secret=keys["responder"],
        remote=keys["initiator"].public if pattern is noise.Pattern.KK else None,
        ephemeral=vector.secret_key("responder_ephemeral_secret"),
    )
    _check_messages(vector, pattern, initiator, responder)
    vector.expect_octets("handshake_hash", initiator.hash)
    vector.expect_octets("handshake_hash", responder.hash)
    vector.expect_octets("initiator_static_public", responder.remote)
    _check_transport(vector, initiator.split(), responder.split())


def _pattern(vector: Fields) -> noise.Pattern:
    text = vector.text("pattern")
    if text not in noise.Pattern.__members__:
        raise DecodeError(f"pattern is KK or XK, not {text[:40]!r}")
    pattern = noise.Pattern[text]
    vector.expect("protocol_name", vector.text("protocol_name"), f"Noise_{pattern.value}_Secp256k1_ChaChaPoly_SHA256")
    return pattern


def _check_messages(
    vector: Fields, pattern: noise.Pattern, initiator: noise.Handshake, responder: noise.Handshake
) -> None:
    writer, reader = initiator, responder
    messages = vector.children("handshake_messages")
    if len(messages) != _MESSAGES[pattern]:
        raise DecodeError(f"{pattern} has {_MESSAGES[pattern]} messages, not {len(messages)}")
    for step in messages:
        payload, message = step.octets("payload"), step.octets("message")
        step.expect("message", message, writer.write(payload))
        step.expect("payload", payload, reader.read(message))
        writer, reader = reader, writer


def _check_transport(vector: Fields, initiator: Ciphers, responder: Ciphers) -> None:
    for step in vector.children("transport"):
        nonce = step.number("nonce")
        for name, sender, receiver in (("initiator", initiator, responder), ("responder", responder, initiator)):
            plaintext, ciphertext = step.octets(f"{name}_plaintext"), step.octets(f"{name}_ciphertext")
            step.expect(f"{name}_ciphertext", ciphertext, sender[0].seal(nonce, plaintext))
            step.expect(f"{name}_plaintext", plaintext, receiver[1].open(nonce, ciphertext))


SECTIONS: Mapping[str, Check] = {
    "keys": check_keys,
    "ecdh": check_ecdh,
    "signatures": check_signatures,
    "rules": check_rules,
    "packets": check_packets,
    "transport_ids": check_transport_ids,
    "signed_entries": check_signed_entries,
    "http_auth": check_http_auth,
    "noise": check_noise,
    "app_frames": check_app_frames,
}


def _expect_signed(vector: Fields, payload: bytes) -> None:
    valid = verify(vector.public_key("public_key"), payload, vector.octets("signature"))
    vector.expect("signature", "valid", "valid" if valid else "not of public_key over payload")


def _uuid(vector: Fields, field: str) -> UUID:
    text = vector.text(field)
    try:
        value = UUID(text)
    except ValueError as error:
        raise DecodeError(f"{field} is a UUID") from error
    vector.expect(field, text, str(value))
    return value
