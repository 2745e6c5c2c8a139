"""Why a command failed, in words, and whether it may have executed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from epaxos.client.session.questions import Question
from epaxos.client.session.tickets import Ticket, Waiter
from epaxos.errors import Busy, ClientError, Closed, NoAnswer, Refused, SessionExpired, Untold

_Error = TypeVar("_Error", bound=ClientError)

_MAYBE = "; the command may have executed, or may still do so"
_UNDER_WAY = ", where it is under way: give it more time (timeout)"
_NEVER = "; the command did not execute"


def out_of_time(
    ticket: Ticket[Waiter],
    names: Sequence[str],
    troubles: Sequence[str],
    unready: Sequence[int] = (),
    *,
    reached: bool,
) -> ClientError:
    """The error of a ticket whose deadline has passed.

    `troubles` are what keeps the replicas from being reached; `unready` are those that cannot serve, by whom no session
    could begin; `reached` says that there is a connection to one.
    """
    span = f"within {ticket.timeout:g} s"
    if ticket.untold:
        return Untold(
            f"the command was executed, but its result did not come {span}: answers over this connection are "
            "too large, or read too slowly; ask for less at a time"
        )
    if ticket.tries:
        hint = _UNDER_WAY if ticket.under_way == ticket.tries[-1] else ""
        return _certain(
            NoAnswer(f"no answer from {_listed(ticket.tries, names)} {span}{hint}{_MAYBE}"), ticket
        )
    if ticket.busy:
        busy = _listed(ticket.tried, names)
        text = f"{busy} did not take the command {span} ({ticket.reason}); it did not execute"
        return _certain(Busy(text), ticket)
    if unready:
        text = f"{_listed(unready, names)} could not serve {span}, for want of a quorum; the command was not sent"
    elif reached:
        text = f"the command was not sent {span}, which those before it took"
    else:
        text = f"{_unreachable(names, troubles, span)}; the command was not sent"
    return _certain(NoAnswer(text), ticket)


def refused(ticket: Ticket[Waiter], name: str, text: str) -> ClientError:
    """The error of a ticket that the replica called `name` refused."""
    addition = f"; an earlier try is without answer{_MAYBE}" if ticket.tries else ""
    return _certain(Refused(f"{name} refused the command: {text}{addition}"), ticket)


def expired() -> ClientError:
    """The error of a ticket that was under way when its session had ended."""
    return SessionExpired(f"replicas have forgotten the session while an answer was awaited; {_MAYBE}")


def closed(ticket: Ticket[Waiter]) -> ClientError:
    """The error of a ticket that was under way when its client was closed."""
    return _certain(
        Closed(f"the client was closed{_MAYBE if ticket.tries or ticket.untold else _NEVER}"), ticket
    )


def never_began(reason: str) -> ClientError:
    """The error of a call that was made too late."""
    return _harmless(Closed(reason))


def never_submitted(error: ClientError | None, timeout: float) -> ClientError:
    """The error of commands for which no time was left when others of their call came to `error`."""
    if isinstance(error, Closed):
        return never_began("the client was closed" + _NEVER)
    if isinstance(error, Busy | NoAnswer) and not error.may_have_executed:
        return error  # what kept those from being sent kept these too
    return _harmless(
        NoAnswer(f"the command was not sent within {timeout:g} s, which those before it in its call took")
    )


def failed(item: Ticket[Waiter] | Question[Waiter] | None, reason: str) -> ClientError:
    """The error of what was under way, or was to be submitted, when the client itself failed."""
    if isinstance(item, Ticket) and (item.tries or item.untold):
        return NoAnswer(reason + _MAYBE)
    return _harmless(NoAnswer(reason if isinstance(item, Question) else reason + _NEVER))


def of_a_read(error: ClientError) -> ClientError:
    """The same error of a command that only reads: to nobody it makes a difference whether that executed."""
    if not error.may_have_executed or isinstance(error, Untold):
        return error
    return _harmless(type(error)(str(error).removesuffix(_MAYBE)))


def unanswered(question: Question[Waiter], names: Sequence[str], troubles: Sequence[str]) -> ClientError:
    """The error of a question whose deadline has passed."""
    span = f"within {question.timeout:g} s"
    if question.asked is not None:
        text = f"no answer from {names[question.asked]} {span}"
    elif question.replica is not None:
        one = slice(question.replica, question.replica + 1)
        text = _unreachable(names[one], troubles[one], span)
    else:
        text = _unreachable(names, troubles, span)
    return _harmless(NoAnswer(text))


def question_refused(name: str, text: str) -> ClientError:
    """The error of a question that the replica called `name` refused."""
    return Refused(f"{name} refused the question: {text}")


def _certain(error: _Error, ticket: Ticket[Waiter]) -> _Error:
    error.may_have_executed = bool(ticket.tries) or ticket.untold
    return error


def _harmless(error: _Error) -> _Error:
    error.may_have_executed = False
    return error


def _unreachable(names: Sequence[str], troubles: Sequence[str], span: str) -> str:
    known = [(name, trouble) for name, trouble in zip(names, troubles, strict=False) if trouble]
    reasons = "; ".join(f"{name}: {trouble}" if len(names) > 1 else trouble for name, trouble in known)
    return (
        f"{', '.join(dict.fromkeys(names))} could not be reached {span}{f' ({reasons})' if reasons else ''}"
    )


def _listed(replicas: Sequence[int], names: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(names[replica] for replica in replicas))
