import pytest

from keras_resnet import memory

TOLD = "model name\t: x\nflags\t\t: fpu avx2 avx512f avx512_bf16 amx_bf16\n"


@pytest.fixture
def told(tmp_path):
    path = tmp_path / "cpuinfo"
    path.write_text(TOLD, encoding="utf-8")
    return path


def test_flags_are_read_and_a_missing_file_is_no_error(told, tmp_path, monkeypatch):
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    assert memory.instructions(told) == {"fpu", "avx2", "avx512f", "avx512_bf16", "amx_bf16"}
    assert memory.instructions(tmp_path / "none") == set()


@pytest.mark.parametrize("limit", ["AVX2", "avx2", "AVX2_VNNI"])
def test_a_limit_of_onednn_hides_what_it_keeps_from(limit, told, monkeypatch):
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    assert memory.instructions(told) == {"fpu", "avx2"}
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")
    assert "avx512_bf16" in memory.instructions(told)
