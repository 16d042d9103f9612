"""Networks of transformers from their configuration."""

import numpy as np
import pytest
from network_checks import assert_equals_reference, error_text, run_untuned

from tvm_integration.compile.execution import compare_outputs
from tvm_integration.frontends.hf import build_hf
from tvm_integration.frontends.load import load_network

USERS = """
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

IDS = torch.ones(1, 8, dtype=torch.int64)

def gpt2():
    config = GPT2Config(n_embd=32, n_layer=1, n_head=2, vocab_size=50, n_positions=32)
    config.use_cache = False
    return GPT2LMHeadModel(config), (IDS,)

def llama():
    config = LlamaConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1,
        intermediate_size=64, vocab_size=50, max_position_embeddings=32,
    )
    config.use_cache = False
    return LlamaForCausalLM(config), (IDS,)
"""


def test_hf_network_from_its_configuration():
    network = load_network(
        "hf:BertConfig,hidden_size=32,num_hidden_layers=1,num_attention_heads=2,"
        "intermediate_size=64,vocab_size=100,sequence=12,batch=2",
        seed=2,
    )
    assert network.name == "BertConfig"
    assert network.input_names == ("input_ids", "attention_mask")
    assert network.inputs[0].shape == (2, 12)
    assert network.inputs[0].max() < 100
    assert_equals_reference(network)


@pytest.mark.exhaustive
def test_hf_network_in_half():
    network = load_network(
        "hf:BertConfig,hidden_size=32,num_hidden_layers=1,num_attention_heads=2,"
        "intermediate_size=64,vocab_size=50,sequence=8,dtype=float16"
    )
    got, expected = run_untuned(network), network.reference.run(network.inputs)
    assert {each.dtype for each in got} == {np.dtype("float16")}
    assert compare_outputs(got, expected).match


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize("name", [pytest.param("gpt2", marks=pytest.mark.exhaustive), "llama"])
def test_language_models_without_a_mask(workplace, name):
    """Their own masks are sums and comparisons of truth values and positions."""
    (workplace / "users_models.py").write_text(USERS)
    assert_equals_reference(load_network(f"users_models:{name}"))


def test_hf_vision_network():
    network = load_network(
        "hf:ResNetConfig,hidden_sizes=[8,16],depths=[1,1],image=32,embedding_size=8,layer_type=basic"
    )
    assert network.input_names == ("pixel_values",)
    assert network.inputs[0].shape == (1, 3, 32, 32)
    assert_equals_reference(network)


def test_a_configuration_that_names_no_channels_gets_color_images():
    _, inputs = build_hf("TextNetConfig", {"image_size": "[64,32]"}, seed=0)
    assert inputs["pixel_values"].shape == (1, 3, 64, 32)


@pytest.mark.parametrize(
    ("model", "text"),
    [
        ("hf:BertConfg", "got 'BertConfg': did you mean hf:BertConfig?"),
        ("hf:BertModel", "got 'BertModel': write hf:BertConfig, for example"),
        ("hf:BertConfig,hidden_sise=3", "got 'hidden_sise': did you mean hidden_size?"),
        ("hf:BertConfig,batch=0", "batch of hf:BertConfig must be a whole number of at least 1"),
        ("hf:BertConfig,num_hidden_layers=many", "hf:BertConfig must accept its options, got "),
        (
            "hf:BertConfig,hidden_size=30,num_attention_heads=4",
            "transformers must be able to build hf:BertConfig, got ValueError",
        ),
        ("hf:BertConfig,num_hidden_layers=-1", "num_hidden_layers of hf:BertConfig must be at"),
        ("hf:CLIPConfig", "give module:function"),
    ],
)
def test_bad_hf_names(model, text):
    assert text in error_text(model)


def test_without_transformers_the_extra_is_named(monkeypatch):
    monkeypatch.setattr("costmodels.installed.find_spec", lambda _: None)
    assert error_text("hf:BertConfig") == (
        "hf:BertConfig needs transformers, which is not installed: "
        "`pip install 'tvm-costmodels[hf]'`"
    )
