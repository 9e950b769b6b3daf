"""What one archive may ask for, by all documents that lead to it."""

from dataclasses import replace

import pytest

from airside.archive.completeness import judge
from airside.archive.formats.allowance import Allowance
from airside.archive.formats.detect import make_draft
from airside.archive.formats.records import check_records
from airside.core.errors import ArchiveLimitError
from airside.core.settings import MIB, Limits
from airside.oci.model import OCI_MANIFEST
from support import hostile_archives as hostile
from support.members import Members

SMALL = Limits(names=100, descriptors=1_000, records=2_000, documents_bytes=MIB)


def plan_of(files, limits=SMALL):
    members = Members(files, {}, {})
    facts = members.facts()
    draft = make_draft(
        files=frozenset(files),
        links={},
        read=members.read,
        held=lambda _digest: None,
        allowance=Allowance(limits),
    )
    plan = draft.assemble({name: facts[name] for name in draft.members}, members.read)
    check_records(plan, limits)
    return plan, {each.digest: each.size_bytes for each in facts.values()}


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        (hostile.many_names(101), "names"),
        (hostile.many_images(101), "names"),
        (hostile.many_entries(101), "names"),
        (hostile.many_layers(600), "descriptors"),  # and as many diff IDs
        (hostile.many_configs(6, 200), "descriptors"),
        (hostile.many_repositories(90, 90), "records"),
        (hostile.damaged_below_many_roots(90, 90), "records"),
        (hostile.many_annotations(20, 1_000), "documents_bytes"),
        (hostile.wide_annotations(6, 100_000), "documents_bytes"),
        (hostile.old_images(5, 5_000), "documents_bytes"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_archive_that_asks_for_more_is_refused_with_the_limit(files, limit):
    with pytest.raises(ArchiveLimitError, match=rf"limits\.{limit}") as caught:
        plan_of(files)
    assert caught.value.context["limit"] == f"limits.{limit}"


@pytest.mark.parametrize(
    "files",
    [hostile.many_names(100), hostile.many_entries(100), hostile.many_layers(400)],
)
def test_an_archive_within_its_limits_is_planned(files):
    plan, sizes = plan_of(files)
    assert judge(plan, sizes.get).images


def test_a_child_that_indexes_list_often_is_planned_once():
    plan, sizes = plan_of(hostile.one_child_listed_often(50, 4), replace(SMALL, nesting=4))
    judged = judge(plan, sizes.get)
    assert len(judged.documents) == 5
    assert not judged.problems


def test_an_archive_has_a_bounded_number_of_problems():
    roots = (hostile.described(b"%d" % n, OCI_MANIFEST) for n in range(1_100))
    plan, sizes = plan_of(hostile.layout({}, *roots), Limits())
    problems = judge(plan, sizes.get).problems
    assert len(problems) == 1_001
    assert "more problems" in problems[-1].reason


def test_a_problem_tells_long_texts_in_short():
    plan, sizes = plan_of(hostile.many_names(1) | {"l/layer.tar": b"other"})
    assert judge(plan, sizes.get).problems
    files = hostile.layout({}, hostile.named(b"x", "n" * 100_000))
    plan, sizes = plan_of(files)
    problem = judge(plan, sizes.get).problems[0]
    assert max(map(len, (problem.reason, problem.image, problem.blob))) < 2_100
