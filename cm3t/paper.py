"""What the paper reports, as data: its tables, and its sentences that can turn out true or false.

Source: arXiv 2501.03332v1, the text of the WACV 2025 paper. Tables 2, 3 and 5 are missing from that text; of Table 5
one sentence survives (claim `caa-beats-mmca`), of Tables 2 and 3 none with a number. Nothing is filled in from memory.
These numbers are the paper's alone: they never share a column with ours.
"""

from cm3t.claims import ACTION, MAP, MSE, Claim

TITLE = "CM3T: Framework for Efficient Multimodal Learning for Inhomogeneous Interaction Datasets"
MISSING_TABLES = (2, 3, 5)

# Table 1, EPIC-KITCHENS-100: group, method, backbone, top-1 accuracy (%), epochs, GFLOPs as printed.
# The GFLOPs follow no one protocol (published.PAPER tells what each row is short of): quoted, and never compared.
TABLE_1 = (
    ("multimodal", "M&M Mix", "ViViT", 49.6, 50, ">4790"),
    ("multimodal", "CM3T", "Video Swin-B", 48.2, 22, "616"),
    ("multimodal", "CM3T", "CLIP-B", 50.1, 18, "754"),
    ("PETL", "Dual-Path Adapters", "ViT-B", 35.8, 21, "642"),
    ("PETL", "ST-Adapters", "ViT-B", 34.3, 18, "911"),
    ("PETL", "Dual-Path Adapters", "CLIP-B", 44.8, 24, "642"),
    ("PETL", "ST-Adapters", "CLIP-B", 44.1, 18, "911"),
    ("PETL", "AdaptFormer + PT", "Video Swin-B", 28.7, 6, "357"),
    ("PETL", "MHVA + PT", "Video Swin-B", 39.8, 14, "449"),
    ("PETL", "MHVA + PT", "CLIP-B", 45.5, 13, "589"),
)

# Table 4, Video Swin-B: data, input, method, metric, value, epochs, trained parameters (% of the backbone).
TABLE_4 = (
    ("EK-100", "RGB", "Full finetuning", "top-1 (%)", 41.7, 49, 100.0),
    ("EK-100", "RGB", "MHVA + PT", "top-1 (%)", 39.8, 14, 12.8),
    ("EK-100", "multimodal", "Full finetuning + CAA", "top-1 (%)", 48.9, 56, 109.5),
    ("EK-100", "multimodal", "CM3T", "top-1 (%)", 48.2, 22, 22.3),
    ("UDIVA", "RGB", "Full finetuning", "mean MSE", 0.82, 51, 100.0),
    ("UDIVA", "RGB", "MHVA + PT", "mean MSE", 0.85, 35, 12.8),
    ("UDIVA", "multimodal", "Full finetuning + CAA", "mean MSE", 0.69, 32, 116.1),
    ("UDIVA", "multimodal", "CM3T", "mean MSE", 0.69, 27, 28.9),
    ("MPIIGI", "RGB", "Full finetuning", "mAP", 0.887, 17, 100.0),
    ("MPIIGI", "RGB", "MHVA + PT", "mAP", 0.882, 8, 12.8),
    ("MPIIGI", "multimodal", "Full finetuning + CAA", "mAP", 0.901, 18, 116.1),
    ("MPIIGI", "multimodal", "CM3T", "mAP", 0.901, 9, 28.9),
)

# Table 6, EPIC-KITCHENS-100, supervised K400 pretraining: method, backbone, accuracy (%).
TABLE_6 = (
    ("Full finetuning", "ViViT-B", 37.4),
    ("MHVA + PT", "ViViT-B", 38.1),
    ("CM3T", "ViViT-B", 44.3),
)

# Sentences with a number that stand in no table.
PROSE = {
    "a fixed adapter scale instead of a learnable one (points)": (-1.1, "Sec. 3.2.2"),
    "ReLU instead of tanh in prefix tuning, with less dropout (points)": (0.7, "Sec. 3.2.2"),
    "CAA instead of MMCA (points)": (0.5, "Sec. 4.2.4, for Table 5"),
    "MTV-B, RGB alone (top-1 %)": (46.7, "Sec. 4.2.4"),
    "M&M Mix's gain from flow and audio (points)": (2.9, "Sec. 4.2.4"),
    "CM3T's gain from flow and audio (points)": (8.4, "Sec. 4.2.4"),
    "parameters a new modality adds (millions)": (5.8, "Sec. 4.4.1"),
    "time of MHVA + PT as a part of full finetuning's": (1 / 3, "Sec. 4.4.1"),
}


MHVA_PT, ADAPTFORMER_PT, FULL = {"method": "mhva+pt"}, {"method": "adaptformer+pt"}, {"method": "full"}
# One adapter over the whole map, with MHVA's learned scale and normed input; and the same with MHVA's parameters.
SHARED = {"method": "adaptformer+scale+norm"}
EQUAL = SHARED | {"reduction": 4, "match_cells": 2}
CM3T = {"method": "mhva+pt+caa", "side": ("audio", "flow")}
FULL_CAA = CM3T | {"method": "full+caa", "regime": "joint", "stretch": 2}  # as many epochs as CM3T's two steps
MMCA, LONGER = CM3T | {"method": "mhva+pt+mmca"}, MHVA_PT | {"stretch": 2}
PICTURES = {"group": {"data": "rooms-group"}, "dyad": {"data": "rooms-dyad"}}
GROUP = PICTURES["group"] | {"side": ("audio",)}
DYAD = PICTURES["dyad"] | {"side": ("audio", "transcript")}
HEARD = {"method": "mhva+pt+caa", "side": ("audio",)}
FEW = HEARD | {"data": "rooms-group", "train_clips": 100, "stretch": 3}
SMALL = {"train_clips": 150, "stretch": 9}  # as many steps as with all 1334
VIVIT = {"backbone": "vivit_mini", "weights": "default"}
ANOTHERS = "over CM3T that always has another clip's, as long"
AS_LONG = "over MHVA + PT, twice as long"
LATER = "its notebook is not part of this version"
PEOPLE = "the interval is over seeds; of 15 people, differences below 0.1 mean little"
LICENSED = "needs the licensed recordings and the published weights"

CLAIMS = (
    Claim(
        "mhva-beats-adaptformer", "Sec. 4.2.1, Table 1",
        "MHVA + PT reaches a far higher accuracy than AdaptFormer's adapters + PT on a supervised backbone",
        ACTION, +1, 11.1, "02", MHVA_PT, ADAPTFORMER_PT,
        beside=(("without PT, the shared adapter of equal parameters", {"method": "mhva"}, EQUAL),),
    ),
    Claim(
        "small-bottleneck-suffices", "Sec. 3.2.2",
        "Divided into heads, adapters learn better even with a smaller bottleneck: half of the shared adapter's",
        ACTION, +1, None, "02", {"method": "mhva", "reduction": 8}, SHARED | {"reduction": 4},
    ),
    Claim(
        "wide-bottleneck-helps-little", "Sec. 3.2.2",
        "Doubling the bottleneck of one shared adapter raises accuracy only slightly",
        ACTION, +1, None, "02", SHARED | {"reduction": 2}, SHARED | {"reduction": 4},
        margin=2.0,  # Choice: "slightly" is within 2 points
    ),
    Claim(
        "cells-need-fixed-cameras", "Sec. 1",
        "MHVA gains because things stay in their places before almost fixed cameras: without that, it gains less",
        ACTION, +1, None, "02", {"method": "mhva"}, EQUAL,
        beyond=({"method": "mhva", "anchored": False}, EQUAL | {"anchored": False}),
    ),
    Claim(
        "cells-add-few-parameters", "Sec. 3.2.2",
        "MHVA's parameters are not many more than those of the usual adapters",
        "parameters", -1, None, "06",
        why_not="the paper sets no margin; by our counts MHVA + PT has 5.8 times as many as AdaptFormer + PT",
    ),
    Claim(
        "learnable-scale-helps", "Sec. 3.2.2",
        "A learnable adapter scale is better than a fixed one",
        ACTION, +1, 1.1, "03", MHVA_PT, {"method": "mhva+pt", "learnable_scale": False},
    ),
    Claim(
        "relu-beats-tanh", "Sec. 3.2.2",
        "ReLU with less dropout in prefix tuning is better than tanh (here: ReLU alone)",
        ACTION, +1, 0.7, "03", MHVA_PT, {"method": "mhva+pt", "activation": "tanh"},
    ),
    Claim(
        "relu-trains-smoothly", "Sec. 3.2.2",
        "ReLU with less dropout in prefix tuning gives a smoother training curve and easier convergence than tanh",
        "loss", -1, None, "03", why_not="the paper gives no measure of it: 03 tries several, of ReLU alone",
    ),
    Claim(
        "prefix-alone-is-weak", "Sec. 4.3",
        "Prefix tuning alone does not work very well: MHVA does better",
        ACTION, -1, None, "03", {"method": "pt"}, {"method": "mhva"},
        beside=(("over the linear probe", {"method": "pt"}, {"method": "linear"}),),
    ),
    Claim(
        "prefix-helps-mhva", "Sec. 4.3",
        "Combined with MHVA, prefix tuning is useful",
        ACTION, +1, None, "03", MHVA_PT, {"method": "mhva"},
    ),
    Claim(
        "close-to-full-finetuning", "Sec. 4.2.3, Table 4",
        "With RGB alone, MHVA + PT is slightly below full finetuning",
        ACTION, -1, 1.9, "07", MHVA_PT, FULL, margin=5.0,  # Choice: "slightly" is within 5 points
    ),
    Claim(
        "regression-on-pictures-close", "Sec. 4.2.3, Table 4",
        "On UDIVA with RGB alone, the mean MSE of MHVA + PT is 0.03 above full finetuning's",
        MSE, 0, 0.03, "07", MHVA_PT | PICTURES["dyad"], FULL | PICTURES["dyad"], margin=0.05,  # Choice: within 0.05
        why_not=PEOPLE,
    ),
    Claim(
        "multilabel-on-pictures-close", "Sec. 4.2.3, Table 4",
        "On MPIIGI with RGB alone, the mAP of MHVA + PT is 0.5 points below full finetuning's",
        MAP, 0, 0.5, "07", MHVA_PT | PICTURES["group"], FULL | PICTURES["group"], margin=2.0,  # Choice: within 2 points
        beside=(("MHVA + PT trained twice as long", LONGER | PICTURES["group"], FULL | PICTURES["group"]),),
    ),
    Claim(
        "plugins-on-small-data", "Sec. 2.1",
        "Full finetuning does not converge on small datasets; plugins do (here: they end higher, with 150 clips)",
        ACTION, +1, None, "07", MHVA_PT | SMALL, FULL | SMALL,
    ),
    Claim(
        "multimodal-close-to-full", "Sec. 4.2.3, Table 4",
        "With all modalities, CM3T is 0.7 points below full finetuning + CAA on EK-100",
        ACTION, 0, 0.7, "07", CM3T, FULL_CAA, margin=2.0,  # Choice: "close" is within 2 points
    ),
    Claim(
        "regression-close-to-full", "Sec. 4.2.3, Table 4",
        "On UDIVA CM3T and full finetuning + CAA have the same mean MSE",
        MSE, 0, 0.0, "07", CM3T | DYAD, FULL_CAA | DYAD, margin=0.05,  # Choice: within 0.05
        why_not=PEOPLE,
    ),
    Claim(
        "multilabel-close-to-full", "Sec. 4.2.3, Table 4",
        "On MPIIGI CM3T and full finetuning + CAA have the same mAP",
        MAP, 0, 0.0, "07", CM3T | GROUP, FULL_CAA | GROUP, margin=2.0,  # Choice: within 2 points
    ),
    Claim(
        "modalities-help", "Sec. 4.2.4, Tables 1 and 4",
        "Adding flow and audio by cross-attention adapters raises EK-100 accuracy",
        ACTION, +1, 8.4, "04", CM3T, LONGER,
        also=((ANOTHERS, CM3T | {"exchanged": True}),),
    ),
    Claim(
        "modalities-help-on-udiva", "Table 4",
        "Adding sound and transcripts by cross-attention adapters lowers UDIVA's mean MSE",
        MSE, -1, 0.16, "07", CM3T | DYAD, MHVA_PT | PICTURES["dyad"], why_not=PEOPLE,
        also=((ANOTHERS, CM3T | DYAD | {"exchanged": True}), (AS_LONG, LONGER | PICTURES["dyad"])),
    ),
    Claim(
        "modalities-help-on-mpiigi", "Table 4",
        "Adding sound by cross-attention adapters raises MPIIGI's mAP",
        MAP, +1, 1.9, "07", CM3T | GROUP, MHVA_PT | PICTURES["group"],
        also=((ANOTHERS, CM3T | GROUP | {"exchanged": True}), (AS_LONG, LONGER | PICTURES["group"])),
    ),
    Claim(
        "fusion-beats-addition", "Sec. 3.3",
        "AdapterFusion in place of simple addition captures how modalities interact (here: it ends higher)",
        ACTION, +1, None, "04", CM3T, CM3T | {"caa_join": "add"},
    ),
    Claim(
        "bottleneck-suits-attention", "Sec. 1",
        "The adapters' bottleneck suits cross-attention better than a generic embedding (here: it ends higher)",
        ACTION, +1, None, "04", CM3T, CM3T | {"caa_source": "generic"},
    ),
    Claim(
        "modalities-have-resolutions", "Sec. 3.1",
        "Depending on the modality, cross-attention works well with blocks of different spatial resolutions",
        ACTION, +1, None, "04", why_not="the paper does not say which; 04 runs each modality in each stage alone",
    ),
    Claim(
        "mmca-does-not-grow", "Sec. 3.3",
        "The model grows with every modality by CAA, and less by MMCA",
        "parameters", -1, None, "05", counted="one more modality, by MMCA", less_than="one more modality",
        why_not="the count is of our MMCA, made so: what each modality after the first adds; by CAA it is 5.8 million",
    ),
    Claim(
        "caa-beats-mmca", "Sec. 4.2.4 (Table 5 itself is missing)",
        "CAA is more accurate than MMCA",
        ACTION, +1, 0.5, "05", CM3T, MMCA,
    ),
    Claim(
        "share-of-mhva-pt", "Abstract, Table 4",
        "MHVA + PT trains 12.8 % of the backbone's parameters",
        "share", 0, 12.8, "06", counted="MHVA + PT", why_not="of our default preset, one of several readings that fit",
    ),
    Claim(
        "share-of-cm3t", "Abstract, Sec. 4.2.3, Table 4",
        "Two more modalities bring the trained share to 22.3 % (28.9 % in two rows of Table 4)",
        "share", 0, 22.3, "06", counted="CM3T, EK-100 (two modalities)",
        why_not="two modalities make 28.9 %, one makes 22.3 %; text and table disagree",
    ),
    Claim(
        "share-of-full-with-caa", "Sec. 4.2.3, Table 4",
        "Full finetuning + CAA trains 109.5 % of the backbone's parameters on EK-100 (116.1 % in two rows of Table 4)",
        "share", 0, 109.5, "06", counted="full fine-tuning + CAA, EK-100",
        why_not="two modalities make 116.1 %, one makes 109.5 %; text and table disagree",
    ),
    Claim(
        "parameters-of-a-modality", "Sec. 4.4.1",
        "A new modality adds 5.8 million parameters on Video Swin-B",
        "parameters", 0, 5.8, "06", counted="one more modality",
        why_not="each after the first, its embedding 1024 wide, as was chosen to fit; the first brings the fusion too",
    ),
    Claim(
        "model-agnostic", "Sec. 4.4, Table 6",
        "On a frozen ViViT-B, MHVA + PT is better than full finetuning",
        ACTION, +1, 0.7, "06", MHVA_PT | VIVIT, FULL | VIVIT,
        beside=(("MHVA + PT trained twice as long", LONGER | VIVIT, FULL | VIVIT),),
    ),
    Claim(
        "modalities-help-on-vivit", "Sec. 4.4, Table 6",
        "On a frozen ViViT-B, flow and audio by cross-attention adapters raise EK-100 accuracy",
        ACTION, +1, 6.2, "06", CM3T | VIVIT, LONGER | VIVIT, also=((ANOTHERS, CM3T | VIVIT | {"exchanged": True}),),
    ),
    Claim(
        "better-than-petl", "Sec. 4.2.1, Table 1",
        "With the same supervised pretraining, MHVA + PT beats dual-path and ST-adapters",
        ACTION, +1, 4.0, "08", why_not=LATER,
    ),
    Claim(
        "better-than-petl-with-clip", "Sec. 4.2.2, Table 1",
        "With CLIP's pretraining, MHVA + PT beats dual-path and ST-adapters",
        ACTION, +1, 0.7, "08", why_not=LATER,
    ),
    Claim(
        "petl-needs-self-supervision", "Sec. 1, Table 1",
        "Earlier adapters work well only on contrastively or self-supervised pretrained backbones",
        ACTION, +1, 9.0, "08", why_not=LATER,
    ),
    Claim(
        "distant-source-fails", "Sec. 5",
        "If the pretraining data are very unlike the target, results are not good",
        ACTION, -1, None, "08", why_not=LATER,
    ),
    Claim(
        "reuse-across-datasets", "Sec. 1 and 5",
        "Cross-modal adapters trained on one dataset help another, smaller one",
        MAP, +1, None, "09", FEW | {"init": HEARD}, FEW,
    ),
    Claim(
        "converges-in-fewer-epochs", "Sec. 4.4.1, Table 4",
        "MHVA + PT needs fewer epochs than full finetuning (14 against 49)",
        "epochs", -1, 35.0, "07",
        why_not="every run here anneals its rate over the same epochs, so that its best epoch says nothing of speed",
    ),
    Claim(
        "a-third-of-the-time", "Sec. 4.4.1",
        "MHVA + PT takes a third of full finetuning's time",
        "seconds", -1, None, "06", why_not="of a whole training; 06 has the ratio of one step, on our machine",
    ),
    Claim(
        "low-flops", "Sec. 4.4.1, Table 1",
        "Models with the plugins take few FLOPs",
        "GMACs", -1, None, "06", why_not="few against what is not said, and those printed fit no count: 06 has both",
    ),
    Claim(
        "state-of-the-art-with-clip", "Sec. 4.2.1, Table 1",
        "With CLIP-B, CM3T beats M&M Mix on EK-100",
        ACTION, +1, 0.5, "11", why_not=LICENSED,
    ),
    Claim(
        "close-to-mm-mix", "Sec. 4.2.1, Table 1",
        "With Video Swin-B, CM3T is 1.4 points below M&M Mix at a thirteenth of the trained parameters",
        ACTION, -1, 1.4, "11", why_not=LICENSED,
    ),
    Claim(
        "gains-more-than-mm-mix", "Sec. 4.2.4",
        "CM3T gains more from flow and audio (8.4 points) than M&M Mix does (2.9)",
        ACTION, +1, 5.5, "11", why_not=LICENSED,
    ),
    Claim(
        "as-good-as-fat", "Sec. 4.2.2 (Tables 2 and 3 are missing)",
        "CM3T equals FAt transformers on UDIVA, and is better on MPIIGI, with about a fifth of the trained parameters",
        "mean MSE, mAP", 0, None, "11", why_not=LICENSED,
    ),
)  # fmt: skip


def claim(id: str) -> Claim:
    """The claim of this id; KeyError lists the known ones."""
    for found in CLAIMS:
        if found.id == id:
            return found
    raise KeyError(f"no claim {id!r}; known: {', '.join(found.id for found in CLAIMS)}")
