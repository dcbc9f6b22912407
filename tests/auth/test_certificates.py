import ssl
import string
from contextlib import suppress
from typing import Any

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from gateway.auth.certificates import CertificateRules, certificate_identity, read_certificate
from gateway.config.compile import compile_certificate_rules
from gateway.config.settings.access import CertificateIdentity
from gateway.model.identity import ClientCertificate, Identity, Profile
from gateway.model.reasons import Reason, Why
from tests.support.pure import PROPERTY, denial_of

PROFILES = {name: Profile(name, 1000) for name in ("default", "big")}
KINDS = ("uri", "dns", "email", "cn")
NAMES = {"uri": "spiffe://site/a", "dns": "a.test", "email": "a@a.test", "cn": "A"}

printable = st.text("".join(chr(c) for c in range(0x21, 0x7F)), min_size=1, max_size=255)


def rules_of(identity: str | None = "dns", **settings: Any) -> CertificateRules | None:
    return compile_certificate_rules(CertificateIdentity.model_validate({"identity": identity, **settings}), PROFILES)


def given_rules(identity: str = "dns", **settings: Any) -> CertificateRules:
    rules = rules_of(identity, **settings)
    assert rules is not None
    return rules


# Names


def named(**names: tuple[str, ...]) -> ClientCertificate:
    given: dict[str, Any] = dict(names)
    return ClientCertificate(**given)


def test_reads_the_names_of_every_kind_in_order() -> None:
    shown = {
        "subject": ((("countryName", "DE"),), (("commonName", "A"), ("commonName", "B")), (("commonName", "A"),)),
        "subjectAltName": (
            ("DNS", "A.Test"), ("URI", "spiffe://Site/a"), ("email", "A@a.test"), ("IP Address", "192.0.2.1"),
            ("DNS", "b.test"), ("DirName", ((("commonName", "C"),),)), ("othername", "<unsupported>"),
            ("Registered ID", "1.2.3"),
        ),
        "notAfter": "Jan  1 00:00:00 2038 GMT",
    }  # fmt: skip
    assert read_certificate(shown) == ClientCertificate(
        uri=("spiffe://Site/a",), dns=("a.test", "b.test"), email=("A@a.test",), cn=("A", "B")
    )


def test_a_certificate_without_names_has_none() -> None:
    for shown in ({}, {"subject": (), "subjectAltName": ()}, {"subject": ((),)}):
        assert read_certificate(shown) == ClientCertificate()


def test_a_name_that_differs_in_case_alone_is_one_dns_name_and_two_of_any_other_kind() -> None:
    both = tuple((kind, name) for kind in ("DNS", "URI", "email") for name in ("a", "A"))
    assert read_certificate({"subjectAltName": both}) == ClientCertificate(
        uri=("a", "A"), dns=("a",), email=("a", "A")
    )


@pytest.mark.parametrize(
    "name", ["", "a b", "a\n", "\na", "a\0.test", "a\x7f", "ä.test", "a\r\nX-Api-Key: b", "x" * 256, "\u212a"]
)  # U+212A is lower-cased to a plain k
def test_what_is_not_printable_ascii_is_no_name(name: str) -> None:
    shown = {
        "subject": ((("commonName", name),),),
        "subjectAltName": tuple((kind, name) for kind in ("DNS", "URI", "email")),
    }
    assert read_certificate(shown) == ClientCertificate()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("odd", ["", "Bob Smith", "bob\n", "ä.test", "x" * 256, "\u212a"])
def test_a_name_that_is_not_printable_makes_another_ambiguous(kind: str, odd: str) -> None:
    """Another service might take that one for the bearer."""
    called = {"uri": "URI", "dns": "DNS"}.get(kind, kind)
    for names in (("k", odd), (odd, "k")):
        shown = {
            "subject": tuple((("commonName", name),) for name in names),
            "subjectAltName": tuple((called, name) for name in names),
        }
        denial = denial_of(certificate_identity, read_certificate(shown), given_rules(kind))
        assert (denial.reason, denial.why) == (Reason.UNAUTHENTICATED, Why.AMBIGUOUS)


@PROPERTY
@given(st.lists(st.tuples(st.sampled_from(["DNS", "URI", "email"]), st.text(max_size=300)), max_size=8))
def test_nothing_but_printable_names_comes_through(names: list[tuple[str, str]]) -> None:
    certificate = read_certificate({"subjectAltName": tuple(names)})
    through = (*certificate.uri, *certificate.dns, *certificate.email)
    assert all(1 <= len(name) <= 255 and set(name) <= set(map(chr, range(0x21, 0x7F))) for name in through)
    assert not set("".join(certificate.dns)) & set(string.ascii_uppercase)


@PROPERTY
@given(printable)
def test_every_printable_name_comes_through(name: str) -> None:
    assert read_certificate({"subjectAltName": (("URI", name),)}).uri == (name,)


def shown(authority: trustme.CA, leaf: trustme.LeafCert) -> Any:
    """What a server's getpeercert() says of a client's certificate, after a handshake in memory."""
    accepting, asking = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("server.test").configure_cert(accepting)
    accepting.verify_mode = ssl.CERT_REQUIRED
    leaf.configure_cert(asking)
    for context in (accepting, asking):
        authority.configure_trust(context)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = accepting.wrap_bio(to_server, to_client, server_side=True)
    client = asking.wrap_bio(to_client, to_server, server_hostname="server.test")
    for end in (client, server) * 3:
        with suppress(ssl.SSLWantReadError):
            end.do_handshake()
    return server.getpeercert()


def test_reads_what_pythons_ssl_gives() -> None:
    authority = trustme.CA()
    leaf = authority.issue_cert("A.test", "me@a.test", common_name="Me", organization_name="Org")
    certificate = read_certificate(shown(authority, leaf))
    assert certificate == ClientCertificate(dns=("a.test",), email=("me@a.test",), cn=("Me",))


# Identities


def test_without_a_mapping_there_are_no_rules() -> None:
    assert rules_of(None) is None
    assert rules_of(None, names={"a": {}}) is None


@pytest.mark.parametrize("kind", KINDS)
def test_the_one_name_of_the_kind_that_counts_is_the_identity(kind: str) -> None:
    rules = given_rules(kind, profile="big")
    certificate = named(**{other: (name,) for other, name in NAMES.items()})
    name = f"cert:{NAMES[kind]}"
    assert certificate_identity(certificate, rules) == Identity(
        key_id=name, owner=name, profile=PROFILES["big"], label=("certificate", "accepted"), account=name
    )


@pytest.mark.parametrize("kind", KINDS)
def test_names_of_another_kind_are_no_identity(kind: str) -> None:
    others = {other: (name,) for other, name in NAMES.items() if other != kind}
    for rules in (given_rules(kind), given_rules(kind, names={name: {} for name in NAMES.values()})):
        assert certificate_identity(named(**others), rules) is None
        assert certificate_identity(ClientCertificate(), rules) is None
        assert certificate_identity(None, rules) is None


@pytest.mark.parametrize("kind", KINDS)
def test_several_names_are_ambiguous_even_when_one_is_listed(kind: str) -> None:
    certificate = named(**{kind: (NAMES[kind], "other")})
    for rules in (given_rules(kind), given_rules(kind, names={NAMES[kind]: {}})):
        denial = denial_of(certificate_identity, certificate, rules)
        assert denial.reason is Reason.UNAUTHENTICATED
        assert "ambiguous" in denial.detail
        assert NAMES[kind] not in denial.detail


def test_where_names_are_listed_no_other_is_let_in() -> None:
    rules = given_rules("dns", names={"a.test": {"profile": "big", "scopes": ["admin"]}, "b.test": {}}, profile="big")
    a = certificate_identity(ClientCertificate(dns=("a.test",)), rules)
    b = certificate_identity(ClientCertificate(dns=("b.test",)), rules)
    assert a is not None
    assert b is not None
    assert (a.owner, a.profile.name, a.account) == ("cert:a.test", "big", "cert:a.test")
    assert (b.owner, b.profile.name) == ("cert:b.test", "default")
    assert (a.scopes, b.scopes) == (frozenset({"admin"}), frozenset())
    for other in ("c.test", "x.a.test", "a.test.", "*.test", "test"):
        denial = denial_of(certificate_identity, ClientCertificate(dns=(other,)), rules)
        assert denial.reason is Reason.UNAUTHENTICATED
        assert denial.detail == (
            "The client certificate is valid, but its DNS name in the subjectAltName is not allowed here."
        )


def test_a_listed_dns_name_has_no_case_and_all_others_have() -> None:
    shown = read_certificate({"subjectAltName": (("DNS", "A.TEST"), ("URI", "URN:a"))})
    identity = certificate_identity(shown, given_rules("dns", names={"a.Test": {}}))
    assert identity is not None
    assert identity.owner == "cert:a.test"
    denial_of(certificate_identity, shown, given_rules("uri", names={"urn:a": {}}))


def test_a_name_that_is_not_listed_has_no_scope() -> None:
    identity = certificate_identity(ClientCertificate(cn=("admin",)), given_rules("cn"))
    assert identity is not None
    assert identity.scopes == frozenset()
