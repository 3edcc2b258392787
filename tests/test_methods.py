"""Methods as words: what they mean, which go together, and what is said about those that do not."""

import pytest

from cm3t.coerce import ConfigError
from cm3t.methods import CROSS_OVERRIDES, OVERRIDES, PRESETS, CrossSpec, parse_method


@pytest.mark.parametrize(
    "words, name, trains, source, up",
    [
        ("mhva+pt+caa", "mhva+pt+caa", "plugins", "bottleneck", "each"),
        ("CAA + pt + mhva", "mhva+pt+caa", "plugins", "bottleneck", "each"),
        ("adaptformer+cells+caa", "adaptformer+cells+caa", "plugins", "bottleneck", "each"),
        ("full+caa", "full+caa", "all", "generic", "shared"),
        ("linear+caa", "linear+caa", "head", "generic", "shared"),
        ("pt+caa", "pt+caa", "plugins", "generic", "shared"),
        ("scratch+caa", "scratch+caa", "scratch", "generic", "shared"),
    ],
)
def test_cross_attention_reads_the_bottleneck_where_there_is_one(words, name, trains, source, up):
    method = parse_method(words)
    assert (method.name, method.trains) == (name, trains)
    assert (method.cross.kind, method.cross.source, method.cross.up) == ("caa", source, up)


@pytest.mark.parametrize("word", ["mmca", "late"])
def test_what_it_is_compared_with_is_a_word_too(word):
    assert parse_method(f"mhva+pt+{word}").cross == CrossSpec(kind=word)
    assert parse_method(f"linear+{word}").trains == "head"


def test_the_first_step_is_the_method_without_its_modalities():
    for words in ("mhva+pt", "full", "linear", "adaptformer+cells"):
        assert parse_method(f"{words}+caa", caa_join="add").vision == parse_method(words)
    assert parse_method("mhva+late", cells=4).vision == parse_method("mhva", cells=4)
    assert parse_method("mhva").vision == parse_method("mhva")


def test_overrides_reach_the_cross_attention():
    cross = parse_method("mhva+caa", caa_form="standard", caa_join="add", caa_source="generic", caa_stages=[4, 3]).cross
    assert (cross.form, cross.join, cross.source, cross.stages) == ("standard", "add", "generic", (3, 4))
    assert not cross.affine and cross.up == "each"  # only the source differs from the default
    assert parse_method("mhva+caa", caa_form=None, caa_join=None).cross == CrossSpec()
    assert parse_method("full+caa", caa_join="add").cross.up == "each"
    assert parse_method("mhva+mmca", caa_stages=(1,)).cross.stages == (1,)
    assert set(CROSS_OVERRIDES) < set(OVERRIDES)


def test_presets_change_every_plugin_that_is_there():
    assert parse_method("mhva+pt+caa", preset="default") == parse_method("mhva+pt+caa")
    eight = parse_method("mhva+pt+caa", preset="eight")
    assert (eight.adapter.time_cells, eight.adapter.reduction, eight.prefix.length) == (2, 8, 30)
    assert eight.cross.output and eight.cross.width(512) == 128 and eight.adapter.width(512) == 64
    assert parse_method("mhva", preset="eight").prefix is None
    decoupled = parse_method("mhva+pt+caa", preset="decoupled")
    assert decoupled.cross == parse_method("full+caa").cross and decoupled.adapter == parse_method("mhva").adapter
    assert parse_method("mhva+caa", preset="decoupled", caa_join="add").cross.up == "each"
    assert set(PRESETS) == {"default", "eight", "decoupled"}


@pytest.mark.parametrize(
    "words, overrides, said",
    [
        ("caa", {}, r"say what adapts vision too: mhva\+pt\+caa, full\+caa"),
        ("mhva+caa+late", {}, "three ways to join modalities; choose one"),
        ("full+pt+caa", {}, "each stand alone, or with one of caa, mmca, late"),
        ("mhva+cca", {}, "unknown word 'cca'; did you mean 'caa'"),
        ("mhva+pt", {"caa_form": "double"}, r"no cross-attention \(caa\): leave it out"),
        ("mhva+caa", {"caa_form": "literal"}, "caa_form='literal' is not known; .*double"),
        ("mhva+caa", {"caa_join": "sum"}, "caa_join='sum' is not known"),
        ("mhva+caa", {"caa_stages": ()}, r"name stages of the backbone from 1, such as \(3, 4\)"),
        ("mhva+caa", {"caa_stages": (0,)}, "from 1"),
        ("full+caa", {"caa_source": "bottleneck"}, "no adapter whose bottleneck could be read; add mhva"),
        ("mhva+mmca", {"caa_form": "double"}, "caa_form was given, but 'mmca' .* has no such setting"),
        ("mhva+late", {"caa_stages": (1,)}, "caa_stages was given, but 'late'"),
        ("mhva+caa", {"preset": "nine"}, "unknown preset 'nine'"),
        ("mhva+caa", {"caa_from": "double"}, "unknown method setting 'caa_from'; did you mean 'caa_form'"),
    ],
)
def test_what_does_not_fit_together_is_told_with_the_remedy(words, overrides, said):
    with pytest.raises(ConfigError, match=said):
        parse_method(words, **overrides)
