from __future__ import annotations

import pytest

from continuum_tasks.sqlite.plan.file_systems import (
    LOCAL,
    SECOND_NAME,
    SHARED,
    FileSystemClass,
    file_system_class,
    file_system_remark,
    refusal,
)


def test_a_type_belongs_to_one_class() -> None:
    assert not LOCAL & SHARED
    assert not LOCAL & SECOND_NAME
    assert not SHARED & SECOND_NAME


@pytest.mark.parametrize("kind", [*sorted(SHARED), "fuse.sshfs", "fuse.grpcfuse", "fuse.never-heard-of", "fuse", "fuse3.x"])
def test_a_shared_file_system_is_refused_until_it_is_accepted(kind: str) -> None:
    found = refusal(kind, ())
    assert found is not None
    assert f"({kind})" in found[0]
    assert f"accept_file_system = {kind}" in found[1]
    assert refusal(kind, ("other",)) is not None
    assert refusal(kind, ("other", kind)) is None
    assert file_system_remark(kind, ()) == ""


@pytest.mark.parametrize("kind", sorted(SECOND_NAME))
def test_a_union_is_refused_because_its_files_have_another_name(kind: str) -> None:
    found = refusal(kind, ())
    assert found is not None
    assert "second name" in found[0]
    assert "on the disk itself" in found[1]
    assert refusal(kind, (kind,)) is None


@pytest.mark.parametrize("kind", sorted(LOCAL))
def test_a_local_file_system_is_taken_without_a_word(kind: str) -> None:
    assert refusal(kind, ()) is None
    assert file_system_remark(kind, ()) == ""


def test_an_unknown_file_system_is_taken_with_a_warning() -> None:
    assert file_system_class("foofs") is FileSystemClass.UNKNOWN
    assert refusal("foofs", ()) is None
    assert "accept_file_system = foofs" in file_system_remark("foofs", ())
    assert file_system_remark("foofs", ("foofs",)) == ""
    assert file_system_remark("", ()) == ""
