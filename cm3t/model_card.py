"""The model card of shipped weights: Markdown, every number in it from the record of their pretraining."""

from cm3t import records


def model_card(record: records.Record) -> str:
    """The model card, Markdown, of a pretraining record: every number in it is the record's."""
    train, config = record.train_info, record.run_info["config"]
    top1, clips, meta = train["metrics"]["validation"]["top1"], train["clips"], record.meta_info
    kinds = " ".join(f"| {kind} | {100 * value:.1f} % |\n" for kind, value in top1.items()).replace("\n ", "\n")
    worst = sorted(train["classes"].items(), key=lambda item: item[1])
    curve = [row for row in train["epochs"] if "validation" in row]
    curve = "".join(
        f"| {row['epoch']} | {row['loss']:.2f} | {100 * row['train_top1']:.1f} % | "
        f"{100 * row['validation']['all']:.1f} % |\n"
        for row in curve
    )
    cores = train.get("threads", meta["hardware"]["cores"])
    words, again = "supervised", ""
    if config.get("protocol", words) == "contrastive":
        words = "by captions made of class names (contrastively, the text tower is not kept; the head is zero-shot)"
        again = " --protocol contrastive"
    return f"""# {record.run_id.removeprefix("pretrain--")}: weights of the frozen backbone

{train["parameters"]:,} parameters with the {len(train["classes"])}-class head, stored as float16. Pretrained from
random weights, {words}, on the **synthetic** source set that `python -m cm3t.data.rooms source` renders
({clips["train"]} training and {clips["validation"]} held-out clips, disjoint in rollouts). Not trained on real video:
good for the embedded benchmark, for teaching and for tests, and for nothing else.

| held-out top-1 (chance {100 / len(train["classes"]):.1f} %) | |
|---|---|
{kinds}
Hardest classes: {", ".join(f"{name} {100 * value:.0f} %" for name, value in worst[:8])}.

| epoch | loss | train top-1 (augmented) | held-out top-1 |
|---|---|---|---|
{curve}
Held-out clips are always scored at full size; the first {100 * config["small"]:.0f} % of the epochs train on two thirds
of it, which those scores feel.

Recipe: {", ".join(f"{name} {value}" for name, value in config.items() if name not in ("backbone", "protocol"))}.
It took {train["seconds"] / 60:.0f} minutes on {cores} cores ({meta["hardware"]["cpu"]}).
Source digest `{meta["digests"]["data"]}`, weights digest `{meta["digests"]["weights"]}`.
Reproduce, within seed noise:
`python -m cm3t.data.rooms source && python -m cm3t.pretrain --backbone {config["backbone"]}{again}`.
"""
