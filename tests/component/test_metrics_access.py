"""Who may read `/metrics`, `/healthz` and `/readyz`."""

import pytest

from airside.registry.http.app import create_app
from airside.registry.http.deadline import DeadlinePool
from airside.registry.http.served_content import ServedContent
from airside.telemetry.endpoints import Endpoints
from support.guarded import Guarded, basic, htpasswd, settings
from support.memory import MemoryStore, MemoryView

ACCESS = """
[users.ann]
rules = [{ repositories = ["**"], actions = ["pull"] }]
[users.bob]
rules = [{ repositories = ["docker.io/**"], actions = ["pull"] }]
"""
ANN, BOB = basic("ann", "hunter2"), basic("bob", "swordfish")


async def fine() -> str:
    return ""


async def collect(_health):
    return {"airside_images": {(): 3.0}}


ENDPOINTS = Endpoints([("threads", fine)], [("store", fine)], collect)


def guarded(values):
    view, store = MemoryView(), MemoryStore()

    def app(guard):
        content = ServedContent(view, store, "docker.io")
        made = create_app(content, DeadlinePool(None), guard=guard, answers_health=False)
        ENDPOINTS.add_to(made)
        return made

    return Guarded(view, store, values, app=app)


@pytest.fixture
def files(tmp_path):
    (tmp_path / "htpasswd").write_text(htpasswd(ann="hunter2", bob="swordfish"))
    (tmp_path / "access.toml").write_text(ACCESS)
    return {"htpasswd": tmp_path / "htpasswd", "access": tmp_path / "access.toml"}


def test_where_everybody_may_pull_everybody_may_read_the_metrics():
    with guarded(settings()) as registry:
        found = registry.ask("/metrics")
        assert (found.status, found.body.splitlines()[2]) == (200, b"airside_images 3.0")
        assert registry.ask("/metrics", "HEAD").status == 200


def test_with_logins_only_who_may_pull_everything_reads_the_metrics(files):
    with guarded(settings(**files)) as registry:
        refused = registry.ask("/metrics")
        assert (refused.status, refused.challenge) == (401, 'Basic realm="airside"')
        assert registry.ask("/metrics", headers=ANN).status == 200
        assert registry.ask("/metrics", headers=BOB).status == 403
        assert registry.ask("/metrics", headers=basic("ann", "wrong")).status == 401
        for path in ("/healthz", "/readyz"):
            assert registry.ask(path).body == b"ok\n"


def test_the_setting_opens_the_metrics_to_all_or_closes_them(files):
    with guarded(settings(**files, metrics="all")) as registry:
        assert registry.ask("/metrics").status == 200
    with guarded(settings(metrics="none")) as registry:
        assert registry.ask("/metrics").status == 404
        assert registry.ask("/metrics", headers=ANN).status == 404
