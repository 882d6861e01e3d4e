"""The verdicts on the database. They depend on the facts alone, which `look_at_database` gathers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from sms_retry.doctor.finding import Finding, Unseen, unseen

OLDEST, NEWEST = 15, 18
# Seconds. reconcile takes a listed message for ours only if Twilio created it at most 5 s before the claim.
LARGEST_SKEW = 5.0


@dataclass(frozen=True, slots=True)
class Pooler:
    """The pooler before the database. In session mode, `served` of `wanted` connections at a time got an answer."""

    mode: Literal["none", "transaction", "session"]
    served: int = 0
    wanted: int = 0


@dataclass(frozen=True, slots=True)
class Schema:
    """The schema of the service.

    The user lacks rights, the database lacks migrations and functions, and this release lacks later migrations.
    """

    owner: str
    is_owner: bool
    missing_rights: tuple[str, ...]
    missing_migrations: tuple[str, ...]
    later_migrations: tuple[str, ...]
    missing_functions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Database:
    """The facts. `skew` is the time of the database less that of this machine, in seconds."""

    name: str
    version: int
    encoding: str
    user: str
    is_superuser: bool
    may_create_schema: bool
    synchronous_commit: str
    fsync: str
    skew: float
    schema: Schema | Unseen | None
    pooler: Pooler | Unseen


def judge(found: Database) -> Iterator[Finding]:
    yield _version(found)
    yield _encoding(found)
    yield from _schema(found)
    yield _commits(found)
    yield _clock(found)
    pooler = found.pooler
    yield unseen("database: pooler", pooler) if isinstance(pooler, Unseen) else _pooler(pooler)


def _version(found: Database) -> Finding:
    major, check = found.version // 10_000, "database: version"
    if major < OLDEST:
        return Finding(check, "wrong", f"PostgreSQL {major}.", f"Upgrade it to {OLDEST} or later.")
    if major > NEWEST:
        return Finding(check, "warning", f"PostgreSQL {major}.", f"This release is tested up to {NEWEST}.")
    return Finding(check, "ok", f"PostgreSQL {major}.")


def _encoding(found: Database) -> Finding:
    check, fact = "database: encoding", f"The encoding is {found.encoding}."
    if found.encoding == "UTF8":
        return Finding(check, "ok", fact)
    do = "Texts need UTF8. Create a database with `encoding 'UTF8' template template0`, and migrate it."
    return Finding(check, "wrong", fact, do)


def _schema(found: Database) -> Iterator[Finding]:
    match found.schema:
        case Unseen() as why:
            yield unseen("database: schema", why)
        case None if found.may_create_schema:
            yield Finding("database: schema", "wrong", "The schema sms_retry is missing.", "Invoke migrate, or deploy.")
        case None:
            do = f"`grant create on database {found.name} to {found.user}`, and invoke migrate."
            yield Finding("database: schema", "wrong", f"{found.user} may not create the schema sms_retry.", do)
        case Schema() as schema:
            yield _owner(found, schema)
            yield _rights(found, schema)
            yield _migrations(schema)


def _owner(found: Database, schema: Schema) -> Finding:
    check, fact = "database: owner", f"The tables belong to {schema.owner}, and the user is {found.user}."
    if not schema.is_owner:
        do = f"migrate must sign in as {schema.owner}, or as a member of it: MigrationSecretArn."
        return Finding(check, "warning" if schema.missing_rights else "ok", fact, do)
    if found.is_superuser:
        return Finding(
            check, "warning", f"{found.user} is a superuser.", "Give the service a role without such rights."
        )
    return Finding(check, "ok", fact)


def _rights(found: Database, schema: Schema) -> Finding:
    check = "database: rights"
    if not schema.missing_rights:
        return Finding(check, "ok", f"{found.user} has the rights that the functions need.")
    fact = f"{found.user} lacks: {', '.join(schema.missing_rights)}."
    return Finding(check, "wrong", fact, f"Grant these as {schema.owner}, or sign in as {schema.owner}.")


def _migrations(schema: Schema) -> Finding:
    check = "database: migrations"
    if missing := (*schema.missing_migrations, *schema.missing_functions):
        few = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        return Finding(check, "wrong", f"The database lacks {few}.", "Invoke migrate, or deploy this release.")
    if schema.later_migrations:
        fact = f"A later release has migrated the database: {', '.join(schema.later_migrations)}."
        return Finding(check, "warning", fact, "Check out that release: its doctor knows its migrations.")
    return Finding(check, "ok", "The database has every migration and function of this release.")


def _commits(found: Database) -> Finding:
    check, fact = "database: synchronous_commit", f"synchronous_commit is {found.synchronous_commit}."
    if "off" in (found.fsync, found.synchronous_commit):
        fact = fact if found.fsync == "on" else "fsync is off."
        do = "A crash of the server loses claims, and their messages are sent twice. `alter role ... set"
        do += " synchronous_commit = on`, and `fsync = on` in the configuration of the server."
        return Finding(check, "wrong", fact, do)
    return Finding(check, "ok", fact)


def _clock(found: Database) -> Finding:
    check, fact = "database: clock", f"The clock differs from that of this machine by {abs(found.skew):.1f} s."
    if abs(found.skew) <= LARGEST_SKEW:
        return Finding(check, "ok", fact)
    return Finding(
        check, "wrong", fact, "Compare both with `date -u`, and correct the wrong one: start its NTP client."
    )


def _pooler(pooler: Pooler) -> Finding:
    check = "database: pooler"
    if pooler.mode == "none":
        return Finding(check, "ok", "No pooler is in between.")
    if pooler.mode == "transaction":
        return Finding(check, "ok", "A pooler is in between, in transaction mode.")
    fact = f"A pooler in session mode: it served {pooler.served} of {pooler.wanted} connections at a time."
    do = "Each container of a function keeps a connection. Use the port of the transaction mode, or a larger pool."
    return Finding(check, "wrong" if pooler.served < pooler.wanted else "warning", fact, do)
