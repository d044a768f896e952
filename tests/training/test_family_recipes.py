"""Families: what they expand into is what a recipe of its own would say."""

import tomllib
from pathlib import Path

import pytest
import torch
from helpers.recipes import FAMILY, RECIPE

from placeformer.training.recipe import Recipe, members, read_recipes
from placeformer.training.trainer import Trainer

ZOO = Path(__file__).parents[2] / "zoo"


def family(**changes):
    return FAMILY | {"family": FAMILY["family"] | changes}


def test_a_member_is_the_recipe_one_would_write_by_hand():
    found = {member.name: member for member in members(FAMILY)}
    assert list(found) == [
        "mini-nmda-a0", "mini-nmda-a0.1", "mini-gelu",
        "mini-nmda-a0-s2", "mini-nmda-a0.1-s2", "mini-gelu-s2",
    ]  # fmt: skip
    for name, seed, activation, alpha in (
        ("mini-nmda-a0.1", 0, "nmda", 0.1),
        ("mini-gelu-s2", 2, "gelu", None),
    ):
        by_hand = RECIPE | {
            "name": name,
            "seed": seed,
            "world": RECIPE["world"] | {"seed": seed},
            "network": RECIPE["network"] | {"activation": activation, "alpha": alpha},
        }
        assert found[name] == Recipe.from_dict(by_hand)


def test_the_members_of_a_family_share_a_world_if_its_seed_is_given():
    shared = members(FAMILY | {"world": RECIPE["world"] | {"seed": 7}})
    assert [member.seed for member in shared] == [0, 0, 0, 2, 2, 2]
    assert {member.world["seed"] for member in shared} == {7}
    own = members(FAMILY)
    assert [member.world["seed"] for member in own] == [0, 0, 0, 2, 2, 2]
    a, b = (Trainer(member) for member in (shared[0], shared[3]))
    assert (a.world.maps == b.world.maps).all()
    assert not torch.equal(a.model.read_out.weight, b.model.read_out.weight)


def test_expansion_is_the_same_every_time_and_every_text_is_its_recipe():
    texts = read_recipes(ZOO / "families" / "mini.toml")
    assert texts == read_recipes(ZOO / "families" / "mini.toml")
    assert len(texts) == 45
    for name, text in texts.items():
        recipe = Recipe.from_dict(tomllib.loads(text))
        assert recipe.name == name
        assert recipe.seed == recipe.world["seed"]
    assert {"mini-nmda-a0.01", "mini-nmda-a50-s2", "mini-leaky_relu-s1", "mini-tanh"} < set(texts)
    networks = {Recipe.from_dict(tomllib.loads(text)).network for text in texts.values()}
    assert len(networks) == 15


@pytest.mark.parametrize("file", sorted((ZOO / "families").glob("*.toml")), ids=lambda f: f.stem)
def test_every_family_of_the_zoo_can_be_started(file):
    first, *_ = read_recipes(file).values()
    assert Trainer(Recipe.from_dict(tomllib.loads(first))).step == 0


@pytest.mark.parametrize("file", sorted((ZOO / "recipes").rglob("*.toml")), ids=lambda f: f.stem)
def test_a_recipe_is_a_family_of_one_and_keeps_its_text(file):
    assert read_recipes(file) == {file.stem: file.read_text(encoding="utf-8")}
    recipe = Recipe.read(file)
    assert Recipe.from_dict(tomllib.loads(recipe.to_toml())) == recipe


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (family(alphas=[], activations=[]), r"\[family\] must name one member or more.*got none"),
        (family(alphas=[1, 1.0]), r"each once, got mini-nmda-a1, mini-nmda-a1-s2 more than once"),
        (family(seeds=[0, 0]), "mini-gelu more than once"),
        (family(seeds=[1.5]), r"\[family\]: seeds must be a list of whole numbers, got \[1.5\]"),
        (family(seeds=[True]), "seeds must be a list of whole numbers"),
        (family(alphas="0.1"), "alphas must be a list of numbers, got '0.1'"),
        (family(alphas=[-1]), "network.alpha must be a number of at least 0"),
        (family(activations=["silu"]), "activation must be one of nmda, relu"),
        (family(prefix="../"), "name must be letters, digits"),
        (family(aplhas=[1]), r"\[family\]: unknown keys \['aplhas'\]"),
        (FAMILY | {"name": "x"}, r"unknown keys \['name'\]"),
        (FAMILY | {"world": RECIPE["world"] | {"n": 1}}, r"\[world\]: unknown keys \['n'\]"),
        (FAMILY | {"network": RECIPE["network"]}, r"unknown keys \['activation', 'alpha'\]"),
    ],
)
def test_bad_families_are_refused(entries, message):
    with pytest.raises(ValueError, match=message):
        members(entries)


def test_a_file_that_is_not_toml_is_named(tmp_path):
    (tmp_path / "x.toml").write_text("a = [")
    with pytest.raises(ValueError, match=r"x\.toml must be TOML"):
        read_recipes(tmp_path / "x.toml")
