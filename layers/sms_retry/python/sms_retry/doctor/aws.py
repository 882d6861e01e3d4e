"""The verdicts on a stack in AWS. They depend on the facts alone, which `look_at_aws` gathers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sms_retry.doctor.finding import Finding, Unseen, unseen


@dataclass(frozen=True, slots=True)
class Function:
    """A function: the version of its alias `live`, the newest one, and whether the alias has the function's content.

    `settings` is the hash of the parameters that the alias has. `reserved` is its reserved concurrency, if any.
    """

    name: str
    version: str
    newest: str
    is_same: bool
    is_shifting: bool
    settings: str
    reserved: int | None = None


@dataclass(frozen=True, slots=True)
class Schedule:
    name: str
    state: str
    target: str


@dataclass(frozen=True, slots=True)
class Stack:
    """The facts. `ticks` are the runs of the last five minutes, `answers` the status of an unsigned POST by address."""

    status: str
    settings: str
    workers: int
    functions: tuple[Function, ...] | Unseen
    schedules: tuple[Schedule, ...] | Unseen
    ticks: int | Unseen
    subscribers: tuple[str, ...] | Unseen
    answers: dict[str, int | Unseen]
    kept_for_ever: tuple[str, ...] | Unseen
    concurrency: int | Unseen


def judge(found: Stack) -> Iterator[Finding]:
    yield _status(found.status)
    yield from _functions(found)
    yield from _schedules(found.schedules)
    ticks = found.ticks
    yield unseen("aws: ticks", ticks) if isinstance(ticks, Unseen) else _ticks(ticks)
    people = found.subscribers
    yield unseen("aws: alarms", people) if isinstance(people, Unseen) else _alarms(people)
    for address, answer in found.answers.items():
        check = f"aws: webhook {address}"
        yield unseen(check, answer) if isinstance(answer, Unseen) else _webhook(check, answer)
    kept = found.kept_for_ever
    yield unseen("aws: logs", kept) if isinstance(kept, Unseen) else _logs(kept)
    most = found.concurrency
    yield unseen("aws: concurrency", most) if isinstance(most, Unseen) else _concurrency(found, most)


def _status(status: str) -> Finding:
    if status in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
        return Finding("aws: stack", "ok", f"The stack is {status}.")
    level = "warning" if status.endswith(("IN_PROGRESS", "UPDATE_ROLLBACK_COMPLETE")) else "wrong"
    return Finding("aws: stack", level, f"The stack is {status}.", "Read its events, and deploy again.")  # type: ignore[arg-type]


def _functions(found: Stack) -> Iterator[Finding]:
    if isinstance(found.functions, Unseen):
        yield unseen("aws: functions", found.functions)
        return
    for function in found.functions:
        yield _alias(function, found.settings)
        if function.reserved == 0:
            do = "Remove its reserved concurrency, or deploy."
            yield Finding(f"aws: concurrency of {function.name}", "wrong", "It may not run: 0 are reserved.", do)


def _alias(function: Function, settings: str) -> Finding:
    check = f"aws: alias of {function.name}"
    fact = f"The alias live has version {function.version}"
    if function.is_shifting:
        return Finding(check, "warning", f"{fact}, and a deployment shifts traffic.", "Wait for its end.")
    if function.version != function.newest or not function.is_same:
        do = "Deploy again. If CodeDeploy took the deployment back, read its alarm first."
        return Finding(check, "wrong", f"{fact}, which is not the newest ({function.newest}) or lacks changes.", do)
    if function.settings != settings:
        return Finding(check, "wrong", f"{fact}, with former parameters.", "`make deploy`, which fills in Settings.")
    return Finding(check, "ok", f"{fact}, the newest.")


def _schedules(schedules: tuple[Schedule, ...] | Unseen) -> Iterator[Finding]:
    if isinstance(schedules, Unseen):
        yield unseen("aws: schedules", schedules)
        return
    for schedule in schedules:
        check = f"aws: schedule {schedule.name}"
        if schedule.state != "ENABLED":
            do = "Enable it in EventBridge Scheduler: while it is disabled, its function does not run."
            yield Finding(check, "wrong", f"It is {schedule.state}.", do)
        elif not schedule.target.endswith(":live"):
            yield Finding(check, "wrong", "Its target is not the alias live.", "Deploy again.")
        else:
            yield Finding(check, "ok", "It is enabled.")


def _ticks(ticks: int) -> Finding:
    if ticks:
        return Finding("aws: ticks", "ok", f"process_retries ran {ticks} times in the last five minutes.")
    do = "Look at its schedule, its concurrency and the dead letters: see NoTick in docs/operating.md."
    return Finding("aws: ticks", "wrong", "process_retries did not run in the last five minutes.", do)


def _alarms(subscribers: tuple[str, ...]) -> Finding:
    confirmed = [arn for arn in subscribers if arn.startswith("arn:")]
    pending = len(subscribers) - len(confirmed)
    if confirmed:
        return Finding("aws: alarms", "ok", f"Alarms reach {len(confirmed)} confirmed subscribers.")
    fact = "Its subscriber has not confirmed." if pending else "The topic of the alarms has no subscriber."
    return Finding("aws: alarms", "wrong", fact, "Open the link of AWS's mail, or set AlarmEmail and deploy.")


def _webhook(check: str, answer: int) -> Finding:
    fact = f"An unsigned POST gets {answer}."
    if answer == 403:
        return Finding(check, "ok", fact)
    return Finding(check, "wrong", fact, "It must be 403. Check the domain's mapping, and the log of twilio_webhook.")


def _logs(kept_for_ever: tuple[str, ...]) -> Finding:
    if not kept_for_ever:
        return Finding("aws: logs", "ok", "Every log group has a retention.")
    fact = f"Kept for ever: {', '.join(kept_for_ever)}."
    return Finding("aws: logs", "warning", fact, "Set their retention, or delete them and deploy.")


def _concurrency(found: Stack, most: int) -> Finding:
    wanted = found.workers + 6
    fact = f"{most} unreserved executions; the workers and the other functions use up to {wanted}."
    if most >= wanted:
        return Finding("aws: concurrency", "ok", fact)
    do = "Raise the limit (Service Quotas, Lambda), or lower MaxWorkers and remove ReservedWorkers."
    return Finding("aws: concurrency", "wrong" if most <= found.workers else "warning", fact, do)
