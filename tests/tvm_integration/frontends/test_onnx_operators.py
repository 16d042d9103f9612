"""A sample of onnx's own backend cases, through load, fuse, build and run; and what is refused.

`scripts/check_onnx.py` runs all of them.
"""

import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx_graphs import assert_equals_onnxruntime, save, value

from costmodels.errors import InputError
from tvm_integration.compile.fusion import fuse
from tvm_integration.frontends.load import load_network
from tvm_integration.targets import host_target

sys.path.insert(0, str(Path(__file__).parents[3] / "scripts"))
import check_onnx

RIGHT = (
    "attention_4d_causal",
    "attention_3d_gqa",
    "attention_23_boolmask_fullymasked_row_nan_robustness",
    "bitshift_left_uint8",
    "convtranspose_output_shape",
    "dropout_default_mask",
    "gelu_tanh_1",
    "group_normalization_example",
    "isinf_negative",
    "isinf_positive",
    "layer_normalization_4d_axis1",
    "layer_normalization_2d_axis0",
    "mod_float_edge_cases_fmod_0_float32",
    "mod_mixed_sign_float32",
    "onehot_negative_indices",
    "onehot_with_axis",
    "pow_types_float32_int32",
    "pow_types_int32_float32",
    "pow_types_int64_int64",
    "reduce_max_bool_inputs",
    "resize_downsample_scales_cubic_antialias",
    "resize_downsample_scales_linear",
    "resize_downsample_sizes_nearest_not_larger",
    "resize_upsample_scales_linear_align_corners",
    "resize_upsample_scales_nearest_axes_2_3",
    "resize_upsample_sizes_nearest",
    "rms_normalization_2d_axis1",
    "rotary_embedding",
    "PReLU_1d_multiparam",
    "spacetodepth_crd_mode_example",
    "shape_start_1_end_negative_1",
    "slice_default_steps",
    "swish",
    "tile",
    "upsample_nearest",
)
REFUSED = (
    ("attention_4d_causal_with_past_and_present", "Attention ("),
    ("cast_FLOAT_to_UINT4", "output output of FILE must be of another type"),
    ("compress_0", "Compress ("),
    ("nonmaxsuppression_single_box", "NonMaxSuppression ("),
    ("nonzero_example", "NonZero ("),
    ("shape_start_greater_than_end", "output y of FILE must hold numbers"),
    ("roialign_mode_max", "mode=max"),
    ("training_dropout", "Dropout ("),
    ("batchnorm_example_training_mode", "training_mode=1"),
    ("cast_FLOAT_to_FLOAT8E4M3FN", "output output of FILE must be of another type"),
    ("qlinearconv", "export the network as QDQ"),
    ("bernoulli", "Bernoulli ("),
    ("unique_sorted_without_axis", "Unique ("),
    ("top_k_uint64", "TopK ("),
)


@pytest.fixture(scope="module")
def known():
    return {case.name: case for case in check_onnx.cases()}


@pytest.mark.parametrize("name", RIGHT)
def test_a_case_gives_what_onnx_says(known, name):
    assert check_onnx._check(known[name], "first input") == ("right", "")


def test_an_operator_written_out_has_its_defaults(known):
    assert check_onnx._check(known["hannwindow"], "constants") == ("right", "")


@pytest.mark.parametrize(("name", "part"), REFUSED)
def test_a_case_is_refused_by_operator_and_node(known, name, part):
    kind, text = check_onnx._check(known[name], "first input")
    assert kind == "refused", text
    assert part in text
    assert "\n" not in text
    if "depends on data" in text:
        assert "onnx.utils.extract_model" in text


@pytest.mark.usefixtures("workplace")
def test_a_constant_if_leaves_the_network_fused():
    branches = [
        helper.make_graph(
            [helper.make_node(operator, ["r"], [f"out_{operator}"])],
            operator,
            [],
            [value(f"out_{operator}", None)],
        )
        for operator in ("Tanh", "Neg")
    ]
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("If", ["flag"], ["y"], then_branch=branches[0], else_branch=branches[1]),
    ]
    weights = [("flag", np.array(True))]
    save("net.onnx", nodes, [value("x", [2, 64])], [value("y", [2, 64])], weights)
    network = load_network("net.onnx")
    assert len(fuse(network.module, host_target()).tasks) == 1
    assert_equals_onnxruntime("net.onnx")


@pytest.mark.usefixtures("workplace")
def test_a_branch_that_depends_on_data_leaves_the_rest_fused():
    branches = [
        helper.make_graph(
            [helper.make_node(operator, ["r3"], [f"out_{operator}"])],
            operator,
            [],
            [value(f"out_{operator}", [2, 64])],
        )
        for operator in ("Tanh", "Neg")
    ]
    nodes = [helper.make_node("ReduceSum", ["x"], ["total"], keepdims=0)]
    last = "x"
    for layer in (1, 2, 3):
        nodes += [
            helper.make_node("MatMul", [last, "w"], [f"m{layer}"]),
            helper.make_node("Add", [f"m{layer}", "b"], [f"a{layer}"]),
            helper.make_node("Relu", [f"a{layer}"], [f"r{layer}"]),
        ]
        last = f"r{layer}"
    nodes += [
        helper.make_node("Greater", ["total", "zero"], ["flag"]),
        helper.make_node("If", ["flag"], ["y"], then_branch=branches[0], else_branch=branches[1]),
    ]
    rng = np.random.default_rng(0)
    weights = [
        ("w", rng.standard_normal((64, 64)).astype("float32") / 8),
        ("b", rng.standard_normal(64).astype("float32")),
        ("zero", np.array(0, "float32")),
    ]
    save("net.onnx", nodes, [value("x", [2, 64])], [value("y", [2, 64])], weights)
    cut = fuse(load_network("net.onnx").module, host_target())
    assert max(task.weight for task in cut.tasks) == 3  # product, bias and ReLU are one kernel
    assert sum(task.weight for task in cut.tasks) <= 3 + 2 + 2
    assert_equals_onnxruntime("net.onnx")


@pytest.mark.usefixtures("workplace")
def test_a_file_that_onnxruntime_optimized_is_told():
    x, y = [value("x", [2, 4])], [value("y", [2, 4])]
    weights = [("w", np.ones((4, 4), np.float32)), ("scale", np.ones(4, np.float32))]
    for operator, inputs in (
        ("FusedMatMul", ["x", "w"]),
        ("SkipLayerNormalization", ["x", "x", "scale"]),  # known to the importer, but in part
    ):
        node = helper.make_node(operator, inputs, ["y"], domain="com.microsoft")
        save("net.onnx", [node], x, y, weights, domain="com.microsoft")
        with pytest.raises(InputError, match=rf"{operator} \(\w+\).* as it was exported"):
            load_network("net.onnx")


@pytest.mark.usefixtures("workplace")
def test_narrow_floats_inside_a_graph_are_refused():
    nodes = [
        helper.make_node("Cast", ["x"], ["f8"], to=TensorProto.FLOAT8E4M3FN, name="narrow"),
        helper.make_node("Cast", ["f8"], ["y"], to=TensorProto.FLOAT),
    ]
    save("net.onnx", nodes, [value("x", [4])], [value("y", [4])], opset=19)
    with pytest.raises(InputError, match=r"Cast \(narrow\) .* floats of 8 bits"):
        load_network("net.onnx")


@pytest.mark.usefixtures("workplace")
def test_a_result_without_elements_is_refused():
    nodes = [helper.make_node("Identity", ["w"], ["y"]), helper.make_node("Relu", ["x"], ["z"])]
    outputs = [value("y", [0]), value("z", [2])]
    save("net.onnx", nodes, [value("x", [2])], outputs, [("w", np.zeros(0, np.float32))])
    with pytest.raises(
        InputError, match=r"output y of net.onnx must hold numbers, got shape \[0\]"
    ):
        load_network("net.onnx")


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize(("shift", "direction"), [(3, "LEFT"), (8, "LEFT"), (9, "RIGHT")])
def test_shifts_by_the_width_and_more(shift, direction):
    node = helper.make_node("BitShift", ["x", "s"], ["y"], direction=direction)
    ends = [[value(name, [4], TensorProto.UINT8)] for name in "xy"]
    save("net.onnx", [node], *ends, [("s", np.full(4, shift, np.uint8))])
    assert_equals_onnxruntime("net.onnx")


@pytest.mark.usefixtures("workplace")
def test_what_detects_no_infinity_finds_none():
    node = helper.make_node("IsInf", ["x"], ["y"], detect_positive=0, detect_negative=0)
    save("net.onnx", [node], [value("x", [4])], [value("y", [4], TensorProto.BOOL)])
    assert_equals_onnxruntime("net.onnx")


@pytest.mark.usefixtures("workplace")
def test_a_place_from_the_end_of_a_sequence_is_refused():
    nodes = [
        helper.make_node("SequenceConstruct", ["x", "x"], ["two"]),
        helper.make_node("SequenceInsert", ["two", "x", "last"], ["three"], name="inserted"),
        helper.make_node("ConcatFromSequence", ["three"], ["y"], axis=0),
    ]
    ends = [value("x", [2, 3])], [value("y", None)]
    save("net.onnx", nodes, *ends, [("last", np.array(-1))])
    with pytest.raises(InputError, match=r"SequenceInsert \(inserted\) .* negative position"):
        load_network("net.onnx")


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize("kind", ["Split", "SplitToSequence"])
def test_an_empty_part_of_a_split_is_refused(kind):
    """Of several, TVM's own refusal names no operator."""
    parts = ["part", "empty", "none"] if kind == "Split" else ["parts"]
    nodes = [helper.make_node(kind, ["x", "sizes"], parts, name="parting", axis=0)]
    if kind == "SplitToSequence":
        nodes.append(helper.make_node("SequenceAt", ["parts", "first"], ["part"]))
    nodes.append(helper.make_node("Relu", ["part"], ["y"]))
    weights = [("sizes", np.array([4, 0, 0])), ("first", np.array(0))]
    save("net.onnx", nodes, [value("x", [4])], [value("y", [4])], weights)
    with pytest.raises(InputError, match=r"operator Split.* an empty part"):
        load_network("net.onnx")


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize("kind", ["Div", "Mod"])
def test_whole_numbers_are_not_divided_by_zero(kind):
    ends = [value(name, [64], TensorProto.INT32) for name in "xzy"]
    save("net.onnx", [helper.make_node(kind, ["x", "z"], ["y"])], ends[:2], ends[2:])
    assert load_network("net.onnx").inputs[1].min() == 1
    assert_equals_onnxruntime("net.onnx")


@pytest.mark.usefixtures("workplace")
def test_parts_that_leave_nothing_for_the_last_are_refused():
    parts = [f"part{number}" for number in range(4)]
    for length, is_right in ((5, False), (7, True)):
        node = helper.make_node("Split", ["x"], parts, name="parting", num_outputs=4)
        save(
            "net.onnx",
            [node],
            [value("x", [length])],
            [value(each, None) for each in parts],
            opset=18,
        )
        if is_right:
            assert_equals_onnxruntime("net.onnx")
        else:
            with pytest.raises(InputError, match=r"Split \(parting\).* an empty part"):
                load_network("net.onnx")


@pytest.mark.usefixtures("workplace")
def test_an_unknown_operator_is_named_with_its_node_and_opset():
    node = helper.make_node("Det", ["x"], ["y"], name="the_node")
    save("net.onnx", [node], [value("x", [3, 3])], [value("y", [])])
    with pytest.raises(InputError, match=r"got Det \(the_node\) of opset 17: replace"):
        load_network("net.onnx")
