"""The log lines for the result of an import."""

import logging

from airside.importer.importer import Outcome

log = logging.getLogger("airside.import")


def log_outcome(outcome: Outcome) -> None:
    """Log a line for the result, and one for each of the first problems."""
    path, names = outcome.path, ", ".join(outcome.images[:3])
    more = f" and {len(outcome.images) - 3} more" if len(outcome.images) > 3 else ""
    remarks = "".join(f"; {remark}" for remark in outcome.remarks)
    if outcome.state == "imported":
        log.info("%s: imported %s%s in %.2f s%s", path, names, more, outcome.seconds, remarks)
    elif outcome.state == "partial":
        log.warning("%s: imported in part: %s%s%s", path, names, more, remarks)
    elif outcome.state == "incomplete":
        log.info("%s: incomplete, waiting for the rest: %s", path, outcome.reason)
    elif outcome.state == "rejected":
        log.error("%s: rejected: %s", path, outcome.reason)
    elif outcome.state == "ignored":
        log.info("%s: ignored: %s", path, outcome.reason)
    elif outcome.state == "waiting":
        log.info("%s: waiting: %s", path, outcome.reason)
        return
    elif outcome.state == "failed" and outcome.problems:  # a list
        log.warning("%s: no image of the list could be pulled; it is retried", path)
    for problem in outcome.problems[:5]:
        if problem.reason != outcome.reason or outcome.state in {"partial", "failed"}:
            log.warning(
                "%s: %s%s", path, f"{problem.image}: " if problem.image else "", problem.reason
            )
