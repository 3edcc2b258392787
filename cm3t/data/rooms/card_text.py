"""The words of the data card; `card.render` fills in the numbers."""

TEXT = """\
# rooms-kitchen: data card

{pilot}An embedded, **synthetic** stand-in for EPIC-KITCHENS-100: {people} rendered participants handle the
fixtures of one kitchen, seen in first person, in {recordings} untrimmed recordings with sound ({minutes}
minutes). It is written in the real set's layout with official class ids, so that the real reader runs on it.
It exists to compare *methods* under controlled difficulty; it says nothing about real kitchens, hands or
sounds.

## Splits

{splits}

Participants {unseen} occur in validation only (`EPIC_100_unseen_participant_ids_validation.csv`).
Participants {tune} are the `tune` split (`tune_participant_ids.csv`): carved from train by person, for
learning rates, with no validation recording. A run scores validation once.

## Format

* `PXX/videos/PXX_YY.MP4`: H.264, {size} x {size} pixels, {fps} frames a second (crf {crf}, a key frame every
  {gop}), mono Opus, synthesised at {rate} Hz, {bitrate} bit/s. Together {megabytes} MB, of which the gap
  renderings are {gap_megabytes} MB.
* `annotations/`: `EPIC_100_train.csv`, `EPIC_100_validation.csv` (the official 15 columns),
  `EPIC_100_video_info.csv`, verb and noun classes (those that occur, official ids), tail classes by the
  official rule, unseen and tune people.
* The frame columns follow the official convention, max(1, floor(60 t)): they index frames extracted at 60 a
  second. **Sample by timestamp**, as `EpicKitchens` does.
* `gap1` to `gap{levels}`: {gap_rows} validation segments rendered again with head, gaze, lens, colours,
  textures and light moved step by step; silent and cut to the segments; the rows of
  `EPIC_100_validation_gapN.csv` keep their narration ids.

## Actions

{actions}

Counts of train are without the tune participants. `hob` is two of the four equal knobs, `cupboard` a hinged
and a sliding door; `fridge` is the second hinged door, equal to the cupboard's.

## What was authored

Everything; the cues are there because the generator puts them there.

* *Place*: four equal knobs (oven, hob, hob, extractor fan), two equal hinged doors and two objects share
  looks and motions; where the hand goes decides the noun, and for a knob also the machine that is heard. The
  camera is anchored: each participant has a fixed head pose, with slow sway and a slight turn towards the
  target. Reading clips with a random shift and flip takes the anchor away.
* *Motion*: open and close, take and put are much the same frames in another order; what one of them still
  betrays stands in the table of pairs. Doors stand open or ajar at other times. Reaches that change nothing,
  unannotated actions and pauses lie between the segments.
* *Sound*: impacts by material, a knock when something shuts, machines that start or stop (hob, oven,
  extractor fan, microwave, tap), stray impacts off screen.
* *Opposite actions*: no pair is told apart by sound only. Turning the microwave on and off is the same press
  and the same beep: its hum decides, and a faint light in its window; the motion is one. A light
  switch clicks alike both ways: the flick and the lamp decide, and sound tells nothing. All other pairs differ
  in motion and in sound. How much each cue tells of each pair is measured below.
* *Not physics*: joints and the hand are moved by smooth curves; the hand passes through things now and then.
* Annotation starts and stops are jittered, as people's are.

## Difficulty

{chance}

{difficulty}

{unmeasured}{separation}{standing}Top-1 accuracy in percent on validation unless a column says otherwise, mean ±
standard deviation over seeds; gap columns are action accuracy on the re-rendered segments, which are silent.
Rows with a dash are the network of all three, scored without a modality, with another clip's, or with one in
which nothing happens. It was trained with each modality left out of some of the clips, but never on silence,
which no recording holds: a room's noise is always there. "Trained on other clips' sound and motion" is the same
network with nothing but chance in what these could add.

### Opposite actions, told apart

Accuracy in percent on the validation clips of a pair, when only its two actions are to choose from; mean over
seeds. `More frequent` is always saying the action that train has more of. Pairs of few clips say little: one
clip of eight is 12 points.

{pairs}

{told_by}

## Limits

One kitchen's geometry; few actions; hands without contact; sounds without rooms. Absolute accuracies mean
nothing elsewhere. Verbs come in opposite pairs, so a single frame that finds the noun guesses half of the
actions: read verb accuracy for what motion adds. Motion alone and sound alone are much stronger cues than in
real kitchens, because little but the hand moves and every machine has its own sound. What a modality adds is
authored; the table above has what small networks make of it. Every recording has a sound track: gaps are the
other rooms'. The unseen participants are two, so that the unseen subset's intervals are wide. Methods that exploit a
fixed camera are favoured by design; the anchoring knob and the gap levels are there to measure by how much.

## Licence and origin

The recordings, sounds and annotations are produced by this project's code and are under the project's MIT
licence. The kitchen's shapes and two textures come from the Franka kitchen assets in gymnasium-robotics
(Apache-2.0, Google LLC; the package is MIT); only pictures of them are here, no asset is copied. Class names
and ids are those of EPIC-KITCHENS-100 (its annotations are CC BY-NC 4.0); none of its rows or recordings is
here.

## Making it again

    pip install -e '.[simulate]'
    python -m cm3t.data.rooms kitchen

Generator version {generator}; made with {versions}. Scripts and sounds follow from the seed anywhere; pixels
are equal on one machine and within a tolerance elsewhere, so that these files are the reference. Digest
(sha256 over recordings and annotations): `{digest}`.
Records of runs hold the reader's own digest, over what a run reads (`EpicFiles.digest`).

The dials, as in `rooms.json`:

{dials}
"""
