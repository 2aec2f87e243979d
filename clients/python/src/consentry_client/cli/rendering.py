"""Answers on the terminal: a table for people, one JSON object for scripts. No identifier is in either."""

import json
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from consentry_client.decision import Decision
from consentry_client.explanation import DecidingEvent, Explanation
from consentry_client.intake_course import Acceptance
from consentry_client.receipt_course import Receipt
from consentry_client.status import SidecarStatus
from consentry_client.verification import InvalidReceipt, ReceiptStatement

_IN_HEADLINE = ("allowed", "effect", "reason")


def print_answer(answer: Decision | Explanation, as_json: bool) -> None:
    """Prints a decision, and what explains it."""
    # A denied explanation is false, so its presence is asked for by name.
    explanation, decision = (answer, answer.decision) if isinstance(answer, Explanation) else (None, answer)
    facts = describe_decision(decision)
    if as_json:
        print_json(facts if explanation is None else facts | _describe_explanation(explanation))
        return
    console = Console()
    console.print(Text(decision.effect, style="bold green" if decision else "bold red"), Text(decision.reason))
    shown = ("error", "error_reason") if decision.failed else [name for name in facts if name not in _IN_HEADLINE]
    _print_facts(console, {name: facts[name] for name in shown})
    if explanation is not None:
        _print_explanation(console, explanation)


def describe_decision(decision: Decision) -> dict[str, Any]:
    """Returns a decision as plain values."""
    return {
        "allowed": decision.allowed,
        "effect": str(decision.effect),
        "reason": str(decision.reason),
        "decision_id": str(decision.decision_id) if decision.decision_id else None,
        "deciding_seq": decision.deciding_seq,
        "log_size": decision.log_size,
        "policy_version": decision.policy_version,
        "staleness_ms": decision.staleness_ms,
        "valid_until": decision.valid_until.isoformat() if decision.valid_until else None,
        "error": decision.error,
        "error_reason": decision.error_reason,
    }


def print_acceptance(acceptance: Acceptance, as_json: bool) -> None:
    """Prints what a person's request became."""
    facts = {
        "reference": str(acceptance.request_id),
        "token": str(acceptance.token),
        "accepted_at": acceptance.accepted_at.isoformat(),
        "replayed": acceptance.replayed,
        "idempotency_key": acceptance.idempotency_key,
    }
    if as_json:
        print_json(facts)
        return
    console = Console()
    console.print(
        Text("RECORDED", style="bold green"), Text("already earlier" if acceptance.replayed else "in the log")
    )
    _print_facts(console, facts)


def print_receipt(receipt: Receipt, as_json: bool) -> None:
    """Prints what a receipt that was written is about."""
    facts = {"reference": str(receipt.request_id), "seq": receipt.seq}
    if as_json:
        print_json(facts)
        return
    console = Console()
    console.print(Text("WRITTEN", style="bold green"), Text("check it with consentry verify-receipt"))
    _print_facts(console, facts)


def print_statement(statement: ReceiptStatement, as_json: bool) -> None:
    """Prints what a valid receipt proves."""
    occurrence = statement.occurrence
    facts = {
        "reference": str(statement.reference),
        "log": statement.origin,
        "seq": statement.seq,
        "type": occurrence.type,
        "kind": occurrence.kind,
        "purpose": occurrence.purpose,
        "rejection": occurrence.rejection,
        "source": occurrence.source,
        "time": occurrence.time.isoformat() if occurrence.time else None,
        "checkpoint_size": statement.checkpoint_size,
        "checkpoint_time": statement.checkpoint_time.isoformat() if statement.checkpoint_time else None,
    }
    if as_json:
        print_json({"valid": True} | facts)
        return
    console = Console()
    console.print(Text("VALID", style="bold green"), Text("this request is in the log"))
    _print_facts(console, facts)


def print_invalid_receipt(error: InvalidReceipt, as_json: bool) -> None:
    """Prints why a receipt proves nothing."""
    if as_json:
        print_json({"valid": False, "reason": error.reason})
        return
    Console().print(Text("NOT VALID", style="bold red"), Text(str(error)), soft_wrap=True)


def print_status(status: SidecarStatus, as_json: bool) -> None:
    """Prints what a sidecar holds."""
    facts = {
        "sidecar_id": status.sidecar_id,
        "version": status.version,
        "tenant": status.tenant,
        "sync_state": str(status.sync_state),
        "last_error_reason": status.last_error_reason,
        "log_origin": status.log_origin,
        "log_size": status.log_size,
        "root_hash": status.root_hash.hex(),
        "staleness_ms": status.staleness_ms,
        "policy_version": status.policy_version,
        "cache_generation": status.cache_generation,
        "subjects": status.subjects,
        "journal_mode": status.journal_mode,
        "journal_backlog_records": status.journal_backlog_records,
    }
    if as_json:
        print_json(facts)
    else:
        _print_facts(Console(), facts)


def print_json(facts: Mapping[str, Any]) -> None:
    """Prints one object on one line."""
    sys.stdout.write(json.dumps(facts, ensure_ascii=False) + "\n")


def print_hint(text: str) -> None:
    """Tells a person what to look at, beside the answer and not in it."""
    Console(stderr=True).print(Text(text, style="yellow"), soft_wrap=True)


def _describe_explanation(explanation: Explanation) -> dict[str, Any]:
    return {
        "rules": [
            {"rule": one.rule, "purpose": one.purpose, "fired": one.fired, "note": one.note}
            for one in explanation.rules
        ],
        "deciding_event": _describe_event(explanation.deciding_event) if explanation.deciding_event else None,
        "proof_unavailable": explanation.proof_unavailable,
    }


def _describe_event(event: DecidingEvent) -> dict[str, Any]:
    return {
        "seq": event.seq,
        "erased": not event.event_bytes,
        "inclusion_proof": [step.hex() for step in event.inclusion_proof],
        "tree_size": event.tree_size,
        "root_hash": event.root_hash.hex(),
        "checkpoint": event.checkpoint.decode("utf-8", "replace"),
    }


def _print_explanation(console: Console, explanation: Explanation) -> None:
    table = Table("rule", "purpose", "fired", "note")
    for one in explanation.rules:
        style = "bold" if one.fired else "dim"
        table.add_row(*_as_texts([one.rule, one.purpose or "all", "yes" if one.fired else "no", one.note]), style=style)
    if explanation.rules:
        console.print(table)
    if explanation.deciding_event is not None:
        _print_facts(console, _describe_event(explanation.deciding_event))
    if explanation.proof_unavailable:
        console.print(Text("the feed could not prove the event now; the decision stands", style="yellow"))


def _print_facts(console: Console, facts: Mapping[str, Any]) -> None:
    """Prints names and values; what has no value is left out."""
    table = Table.grid(padding=(0, 2))
    for name, fact in facts.items():
        if fact is not None and fact not in ("", []):
            table.add_row(*_as_texts([name.replace("_", " "), _show(fact)]))
    console.print(table)


def _show(fact: Any) -> Any:
    if isinstance(fact, bool):
        return "yes" if fact else "no"
    return "\n".join(fact) if isinstance(fact, list) else fact


def _as_texts(cells: Iterable[Any]) -> list[Text]:
    # As Text, so that nothing in a value is taken for markup.
    return [Text(str(cell), overflow="fold") for cell in cells]
