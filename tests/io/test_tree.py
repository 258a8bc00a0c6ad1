"""What is saved is loaded as it was, to the last bit, and other readers of the format see it too."""

from __future__ import annotations

import enum
import json
import pickle
import struct
from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import flatgrad as fg
from flatgrad.errors import ArgumentError, CheckpointError

pytest.importorskip("safetensors")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "tree.safetensors"


def same(a, b) -> bool:
    """Equal in type, structure and every bit; by itself, not by the code under test."""
    if isinstance(a, fg.Tensor):
        return isinstance(b, fg.Tensor) and same(a.detach().numpy(), b.detach().numpy())
    if type(a) is not type(b):
        return False
    if isinstance(a, (np.ndarray, np.generic)):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, float):
        return struct.pack("<d", a) == struct.pack("<d", b)
    if isinstance(a, dict):
        pairs = zip(a.items(), b.items(), strict=False)
        return len(a) == len(b) and all(
            same(x, y) for p, q in pairs for x, y in zip(p, q, strict=True)
        )
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b


def round_trip(path, tree):
    fg.io.save(path, tree)
    return fg.io.load(path)


NAN = struct.unpack(">d", bytes.fromhex("fff8000000001234"))[0]  # of a sign and a payload


@pytest.mark.parametrize(
    "tree",
    [
        *(None, True, False, 0, -1, 2**62, -(2**200), 10**5000, "", "ü\ud800\0", b"", b"a\0b"),
        *(0.0, -0.0, 0.1, 5e-324, 1.7976931348623157e308, float("inf"), -float("inf"), NAN),
        *([], (), {}, [[]], ((),), {"": {}}, [(1, [2.0, (3,)]), {}]),
        {1: "int", "1": "str", 1.5: "float", None: "none", (1, "a", None): "tuple"},
        {"a.b": 1, "a": {"b": 2}},
        {"tensor": "x", "dict": [["y", 1]], "__metadata__": None},
        fg.float64,
        [np.float32(0.1), np.int8(-3), np.bool_(True), np.float16(2.5), np.float64(NAN)],
        [np.zeros((0, 3), np.float32), np.array(7.5), np.arange(6).reshape(2, 3), np.array([NAN])],
        [
            np.arange(3).astype(t)
            for t in ("u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "?")
        ],
    ],
    ids=lambda tree: type(tree).__name__,
)
def test_round_trip(path, tree):
    assert same(round_trip(path, tree), tree)


numbers = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
arrays = hnp.arrays(
    st.sampled_from([np.float64, np.float32, np.int64, np.uint8, np.bool_]),
    hnp.array_shapes(min_dims=0, min_side=0, max_side=3),
)
trees = st.recursive(
    numbers | arrays | arrays.map(fg.tensor),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(tree=trees)
def test_round_trip_of_random_trees(path, tree):
    assert same(round_trip(path, tree), tree)


def test_arrays_of_any_layout(path):
    base = np.arange(24.0).reshape(4, 6)
    kinds = [
        base.T,
        base[::2, ::-1],
        np.broadcast_to(1.0, (3, 2)),
        base.astype(">f8"),
        np.asfortranarray(base),
    ]
    for given_, found in zip(kinds, round_trip(path, kinds), strict=True):
        np.testing.assert_array_equal(given_, found)
        assert found.flags.writeable and found.flags.c_contiguous


def test_tensors_that_are_pending_views_or_parameters(path):
    x = fg.arange(6.0).reshape(2, 3)
    tree = {
        "pending": x * 2 + 1,
        "view": x.T[1:],
        "parameter": fg.nn.Parameter(x),
        "scalar": x.sum(),
    }
    found = round_trip(path, tree)
    np.testing.assert_array_equal(found["pending"].numpy(), np.arange(6.0).reshape(2, 3) * 2 + 1)
    np.testing.assert_array_equal(found["view"].numpy(), np.arange(6.0).reshape(2, 3).T[1:])
    assert found["scalar"].item() == 15.0
    assert not found["parameter"].requires_grad and type(found["parameter"]) is fg.Tensor
    found["view"].add_(1)  # it owns its memory


class Colour(enum.IntEnum):
    RED = 3


def test_subclasses_become_plain(path):
    found = round_trip(
        path,
        {
            "a": OrderedDict(x=1),
            "b": Colour.RED,
            "c": x.shape if (x := fg.ones(2, 3)) is not None else 0,
        },
    )
    assert found == {"a": {"x": 1}, "b": 3, "c": (2, 3)}
    assert [type(v) for v in found.values()] == [dict, int, tuple]


def test_what_can_not_be_saved_is_named_with_its_place(path):
    fg.io.save(path, 1)
    model = fg.nn.Linear(1, 1)
    loop: list = []
    loop.append(loop)
    deep: list = []
    for _ in range(150):
        deep = [deep]
    for tree, words in (
        ({"a": [model]}, r"tree\['a'\]\[0\] is of type Linear.* save its \.state_dict\(\)"),
        ({"g": fg.Generator()}, r"tree\['g'\] .*Generator.*\.get_state\(\)"),
        ({"g": np.random.default_rng(0)}, r"\.bit_generator\.state"),
        ({"f": print}, r"builtin_function_or_method"),
        ({"s": {1, 2}}, r"set.*as a list"),
        ({"z": 1j}, r"complex"),
        ({"z": np.zeros(2, complex)}, r"tree\['z'\].*complex128"),
        ({"o": np.array([None])}, r"object"),
        ({"m": np.ma.masked_array([1.0], [True])}, r"masked"),
        ({b"k": 1}, r"key of type bytes"),
        (loop, r"contains itself"),
        (deep, r"100 levels"),
    ):
        with pytest.raises(ArgumentError, match=words):
            fg.io.save(path, tree)
    assert fg.io.load(path) == 1 and len(list(path.parent.iterdir())) == 1


def test_wrong_calls(path):
    for call, words in (
        (lambda: fg.io.save({"w": 1}, path), "the path of a file is required, got dict"),
        (lambda: fg.save(path, {"w": 1}), "the path of a file is required, got dict"),
        (lambda: fg.io.save(path, 1, keep=-1), "keep must be"),
        (lambda: fg.io.save(path, 1, keep=True), "keep must be"),
        (lambda: fg.io.save(path, 1, metadata={"a": 1}), "metadata must be a dict of strings"),
        (lambda: fg.io.save(path, 1, metadata={"flatgrad": "x"}), "flatgrad's own"),
        (lambda: fg.load(3.5), "load: the path of a file"),
    ):
        with pytest.raises(ArgumentError, match=words):
            call()
    assert not list(path.parent.iterdir())


# -- PyTorch's face -------------------------------------------------------------------------------


def test_fg_save_has_pytorchs_order(path):
    fg.save({"w": fg.ones(2)}, path)
    assert fg.load(str(path), map_location="cpu", weights_only=True)["w"].tolist() == [1.0, 1.0]


def test_modules_and_optimisers(path):
    def make():
        model = fg.nn.Sequential(fg.nn.Linear(3, 4), fg.nn.BatchNorm1d(4), fg.nn.Linear(4, 1))
        groups = [{"params": model[0].parameters(), "lr": 0.1}, {"params": model[2].parameters()}]
        return model, fg.optim.AdamW(groups, betas=(0.8, 0.95))

    def step(model, opt, x):
        opt.zero_grad()
        loss = (model(x) ** 2).mean()
        loss.backward()
        opt.step()
        return loss.item()

    x = fg.randn(8, 3)
    model, opt = make()
    step(model, opt, x)
    fg.io.save(path, {"model": model.state_dict(), "opt": opt.state_dict()})
    truth = [step(model, opt, x) for _ in range(3)]
    model, opt = make()
    assert step(model, opt, x) != truth[0]
    found = fg.io.load(path)
    assert str(model.load_state_dict(found["model"])) == "<All keys matched successfully>"
    opt.load_state_dict(found["opt"])
    assert opt.param_groups[0]["betas"] == (0.8, 0.95) and opt.param_groups[0]["lr"] == 0.1
    assert [step(model, opt, x) for _ in range(3)] == truth
    with pytest.raises(ArgumentError, match=r"size mismatch for weight: .*4, 3.*"):
        fg.nn.Linear(2, 4).load_state_dict(
            {k[2:]: v for k, v in found["model"].items() if k[0] == "0"}
        )


@pytest.mark.parametrize(
    "make",
    [
        lambda opt, rates: rates.StepLR(opt, 2, 0.5),
        lambda opt, rates: rates.MultiStepLR(opt, [1, 3, 3]),
        lambda opt, rates: rates.ExponentialLR(opt, 0.9),
        lambda opt, rates: rates.CosineAnnealingLR(opt, 10),
        lambda opt, rates: rates.LinearLR(opt),
        lambda opt, rates: rates.ConstantLR(opt),
        lambda opt, rates: rates.LambdaLR(opt, lambda epoch: 1 / (1 + epoch)),
        lambda opt, rates: rates.ReduceLROnPlateau(opt, patience=0),
    ],
)
def test_schedulers_go_on(path, make):
    def started():
        opt = fg.optim.SGD([fg.ones(1, requires_grad=True)], lr=1.0, momentum=0.9)
        return opt, make(opt, fg.optim.lr_scheduler)

    def rates(opt, schedule, count):
        found = []
        for k in range(count):
            schedule.step(*([float(k)] if "Plateau" in type(schedule).__name__ else []))
            found.append(opt.param_groups[0]["lr"])
        return found

    truth = rates(*started(), 6)
    opt, schedule = started()
    assert rates(opt, schedule, 2) == truth[:2]
    fg.io.save(path, {"opt": opt.state_dict(), "schedule": schedule.state_dict()})
    opt, schedule = started()
    opt.load_state_dict(fg.io.load(path)["opt"])
    schedule.load_state_dict(fg.io.load(path)["schedule"])
    assert rates(opt, schedule, 4) == truth[2:]
    assert len(set(truth)) > 1


# -- the format -----------------------------------------------------------------------------------


def test_the_safetensors_package_reads_it(path):
    from safetensors import safe_open
    from safetensors.numpy import load_file

    tree = {
        "model": {"weight": fg.ones(2, 3), "bias": fg.zeros(3)},
        "lr": 0.1,
        "ids": [np.arange(2)],
    }
    fg.io.save(path, tree, metadata={"board": "pi"})
    arrays = load_file(path)
    assert {k: v.shape for k, v in arrays.items()} == {
        "model.weight": (2, 3),
        "model.bias": (3,),
        "ids.0": (2,),
    }
    np.testing.assert_array_equal(arrays["model.weight"], np.ones((2, 3), np.float32))
    with safe_open(path, framework="np") as file:
        assert file.metadata()["board"] == "pi"
    assert fg.io.read_metadata(path) == {"board": "pi"}


def test_files_of_other_programs(path):
    from safetensors.numpy import save_file

    save_file({"w": np.float32([1, 2]), "half": np.float16([0.5]), "u": np.uint64([2**63])}, path)
    found = fg.load(path)
    assert type(found["w"]) is fg.Tensor and found["w"].tolist() == [1.0, 2.0]
    assert found["half"].dtype is fg.float32 and found["half"].item() == 0.5
    assert found["u"].dtype == np.uint64 and found["u"][0] == 2**63


def test_pytorchs_files(path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file, save_file

    theirs = torch.nn.Linear(3, 2)
    save_file({**theirs.state_dict(), "b": torch.tensor([1.5, -3.0], dtype=torch.bfloat16)}, path)
    found = fg.load(path)
    assert found.pop("b").tolist() == [1.5, -3.0]
    ours = fg.nn.Linear(3, 2)
    ours.load_state_dict(found)
    np.testing.assert_array_equal(ours.weight.detach().numpy(), theirs.weight.detach().numpy())
    fg.save(ours.state_dict(), path)
    theirs.load_state_dict(load_file(path))
    torch.save(theirs.state_dict(), path)
    with pytest.raises(CheckpointError, match=r"pickle or zip file.*safetensors.torch.save_file"):
        fg.io.load(path, strict=True)


# -- nothing is trusted ---------------------------------------------------------------------------


def forged(path, structure: str):
    """A file with a right checksum around a wrong structure."""
    from safetensors.numpy import save

    from flatgrad.io import encoded

    array = np.ones(2, np.float32)
    text = json.dumps({"format": 1, "tree": structure})
    digest = encoded._digest({"a": ("F32", [2], array)}, {"flatgrad": text})
    path.write_bytes(save({"a": array}, {"flatgrad": text, "flatgrad.sha256": digest}))


def test_a_forged_file_is_an_error_and_nothing_else(path):
    forged(path, '{"dict":[["x",{"tensor":"a"}]]}')
    assert fg.io.load(path)["x"].tolist() == [1.0, 1.0]  # the forgery is a good one
    for structure in (
        '{"tensor":"b"}',
        '{"tensor":["a"]}',
        '{"call":"os.system"}',
        '{"dict":[[[],1]]}',
        '{"dict":5}',
        '{"dtype":"object"}',
        '{"float":"00"}',
        '{"int":"zz"}',
        '{"tuple":1,"dict":2}',
        "{}",
        "[" * 100_000 + "]" * 100_000,
        "nonsense",
    ):
        forged(path, structure)
        with pytest.raises(CheckpointError, match="is damaged"):
            fg.io.load(path)


def test_pickles_are_not_opened(path):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("it was executed",))

    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(CheckpointError, match="pickle"):
        fg.io.load(path)


def test_a_newer_format_is_said_to_be_one(path, monkeypatch):
    from flatgrad.io import encoded

    monkeypatch.setattr(encoded, "FORMAT", 2)
    fg.io.save(path, 1)
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match=r"format 2.*update flatgrad"):
        fg.io.load(path)
