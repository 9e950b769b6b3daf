"""The texts of the page in English: plain, short, in the words of OCI and Kubernetes."""

from collections.abc import Mapping

from airside.diagnostics.verdict import SENTENCES

ENGLISH: Mapping[str, str] = {
    **{f"verdict.{code}": found for code, (found, _) in SENTENCES.items()},
    **{f"verdict.{code}.do": advice for code, (_, advice) in SENTENCES.items()},
    "verdict": "State of this node",
    "severity.ok": "OK",
    "severity.busy": "OK",
    "severity.warning": "Warning",
    "severity.problem": "Problem",
    "skip": "Skip to the content",
    "nav": "Pages",
    "nav.overview": "Overview",
    "nav.images": "Images",
    "nav.archives": "Archives",
    "nav.storage": "Storage",
    "nav.runtimes": "Runtimes",
    "nav.log": "Events",
    "overview": "Overview",
    "live.changed": "The page was refreshed",
    "copied": "Copied",
}
