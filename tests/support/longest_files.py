"""Which test files are begun first where several processes share the tests.

A file runs in one process, so a long one that is begun last keeps the others waiting.
`make test ARGS=--durations=50` shows where the time goes.
"""

from collections.abc import Iterable
from pathlib import Path

LONGEST_FIRST = (
    "test_formats.py",
    "test_publishing.py",
    "test_crash.py",
    "test_hostile_documents.py",
    "test_kubelet_images.py",
    "test_unpacked_in_containerd.py",
    "test_flips.py",
    "test_containerd_cri.py",
    "test_restart.py",
    "test_archives.py",
    "test_pinned_digests.py",
    "test_conformance_content.py",
    "test_doctor_containerd.py",
    "test_bad_input.py",
    "test_crash_merging.py",
    "test_lists_pulled.py",
    "test_cuts.py",
    "test_scale.py",
    "test_mirror_settings.py",
    "test_directories.py",
    "test_install.py",
    "test_explain_commands.py",
    "test_removal.py",
    "test_page.py",
    "test_containerd_versions.py",
    "test_chart.py",
    "test_containerd_unpack_faults.py",
    "test_publishing_pods.py",
    "test_stop.py",
    "test_merging.py",
    "test_containerd_read_through.py",
    "test_refused_layers.py",
)
"""Names of files that take more than about 5 s, the longest first; the others may follow anyhow."""
_PLACES = {name: place for place, name in enumerate(LONGEST_FIRST)}


def begin_with_the_longest(paths: Iterable[Path]) -> list[Path]:
    """Returns the files in the order in which to begin them; equal ones stay as they are."""
    return sorted(dict.fromkeys(paths), key=lambda path: _PLACES.get(path.name, len(_PLACES)))
