"""Whether one policy may follow another."""

from consent.policy.errors import DocumentPath, ForbiddenReplacement
from consent.policy.model import Policy
from consent.policy.purpose import Purpose
from consent.policy.wording import quote


def check_replacement(old: Policy | None, new: Policy) -> None:
    """Refuses a policy that would undo what people said under the one before.

    Args:
        old: The policy in force, None when there is none yet.
        new: The policy to come.

    Raises:
        ForbiddenReplacement: The version is not the next one; a purpose is gone or became mandatory; an edge to a
            parent is gone and not kept as a former one.
    """
    # 1. The version: two authors who both start from version n must not both become n + 1.
    expected = old.version + 1 if old else 1
    if new.version != expected:
        after = f"version {old.version} is in force" if old else "there is no policy yet"
        raise ForbiddenReplacement(f"is {new.version}, must be {expected}: {after}", path=("version",))
    if old is None:
        return
    for name, before in old.purposes.items():
        place: DocumentPath = ("purposes", name)
        # 2. No purpose goes: its denials would have nothing to flow from.
        after_change = new.purposes.get(name)
        if after_change is None:
            raise ForbiddenReplacement(
                f"the purpose {quote(name)} is gone; keep it with 'retired: true'", path=("purposes",)
            )
        # 3. None becomes mandatory: denials at it would stop counting.
        _check_not_mandated(before, after_change, place)
        # 4. No edge goes without a trace: denials recorded above would stop flowing down.
        _check_edges(before, after_change, place, new.version)


def _check_not_mandated(before: Purpose, after: Purpose, place: DocumentPath) -> None:
    if after.is_mandatory and not before.is_mandatory:
        raise ForbiddenReplacement(
            f"was {before.legal_basis}, cannot become {after.legal_basis}: people's denials would stop counting; "
            "define a new purpose",
            path=(*place, "legal_basis"),
        )
    if after.art18_exempt and not before.art18_exempt:
        raise ForbiddenReplacement(
            "cannot become true: restrictions of processing would stop counting; define a new purpose",
            path=(*place, "art18_exempt"),
        )


def _check_edges(before: Purpose, after: Purpose, place: DocumentPath, version: int) -> None:
    kept = {former.name: former.dropped_in_version for former in after.former_parents}
    for parent in before.parents:
        if parent not in after.parents and kept.get(parent) != version:
            raise ForbiddenReplacement(
                f"the parent {quote(parent)} is gone; denials recorded at it must still count: "
                f"add {{name: {parent}, dropped_in_version: {version}}} to former_parents",
                path=(*place, "parents"),
            )
    for former in before.former_parents:
        if former.name not in after.parents and kept.get(former.name, 0) < former.dropped_in_version:
            raise ForbiddenReplacement(
                f"the former parent {quote(former.name)} is gone or older; keep "
                f"{{name: {former.name}, dropped_in_version: {former.dropped_in_version}}}",
                path=(*place, "former_parents"),
            )
