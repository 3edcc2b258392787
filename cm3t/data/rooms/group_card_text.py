"""The words of rooms-group's data card; `group_card.render` fills in the numbers."""

TEXT = """\
# rooms-group: data card

An embedded, **synthetic** stand-in for MPIIGroupInteraction: {people} rendered people sit in fours round a
low table and do, or do not, what the real set's fourteen labels name. It is written in the layout of the
behaviour challenge with the official names, so that the real reader runs on it. It exists to compare
*methods* under controlled difficulty; it says nothing about real people, groups or voices.

## Splits

{splits}

A session is four people who occur in no other; a recording is what one of them, the target, is annotated
in. Tune (`bbr/tune_recordings.csv`) is carved from the training list by session, for learning
rates. A run scores validation once. Sound is missing in {silent_share} of the snippets: the sessions
of recordings {silent}.

## Format

* `bbr/clips_{{train,val}}/NNNNN-video.mp4`, `-video1`, `-video2`: one snippet of the target from the front,
  the left and the right. H.264, {size} x {size} pixels, {fps} frames a second, {frames} frames = 2.133 s
  (64 frames at 30 a second in the real set; **sample by time**). crf {crf}.
* `bbr/{{train,val}}_samples.csv`: sample_id, rec_no, subject_pos, start_time, end_time (milliseconds of the
  recording), fourteen columns of 0 and 1.
* `data/recordingNN/audio.opus`: the recording's sound, mono, synthesised at {rate} Hz, Opus at {bitrate}
  bit/s (the real set has audio.wav; the reader takes either). A recording holds its target's snippets, one
  after another.
* {total} MB: clips {clips} MB, sound {sound} MB.
* Inhomogeneous on purpose: {formats};
  clips of one length, where the kitchen's segments differ; a sound file for each recording, of {bitrate} bit/s,
  where the kitchen's sound is in its videos, of {kitchen.sound_bitrate}. Both are Opus.

## Behaviours

{behaviours}

Several can hold at once. The upper body does one thing (or, in {second} of the snippets, two in turn), or
nothing; legs are crossed or move beside it. Shares are skewed, but less than in the real set, where the
rarest label holds in 0.17 % of the snippets: here every class keeps enough positives for an average
precision.

## What was authored

Everything; the cues are there because the generator puts them there.

* *Picture*: hands, head, trunk and legs of figures made of capsules, moved by smooth curves. Lips do not move:
  speech is not seen. The other three are seldom in the picture, and act independently of what is said.
* *Sound*: one synthetic voice a person (harmonics under formants, no words), of one kind a seat: {voices}.
  The microphone stands before the target, so that the target's voice is near; the others' are softer ({far}
  of the level) and come with the room. So the sound tells whether the target speaks, another does, or
  nobody.
* *Ambiguous on purpose*: Gesture and Fumble are one motion of both hands, whose height, distance and extent
  are drawn from overlapping distributions: the best rule on these three numbers is right in {ambiguous} of
  the cases. With Gesture the target speaks ({gesture}), with Fumble somebody else does ({fumble}).
  Hand-mouth and Hand-face differ in the picture by a few pixels; with a hand on the mouth one listens
  ({mouth}), with the cheek on a hand mostly nobody speaks ({face}). With Shrug a turn ends. Where nothing
  of this is done, the target speaks in {own}, and nobody in {quiet}.
* *Place*: cameras are fixed, and every seat has its wall. Which seat is the target's says nothing about the
  labels.
* *Seats*: the annotated target sits on seats 1 to 4 in {seats}.

## Difficulty

{difficulty}

{unmeasured}{standing}Macro mean average precision in percent over the classes that have positives, mean ±
standard deviation over seeds, validation unless a column says tune. The networks are small, ours, trained from
scratch by one recipe on {trained} snippets: they show what at least is to be had of a cue, they are not tuned
against each other. `no sound`, `another clip's sound` and `silence` (which no recording holds: a room's noise is
always there) are the joint network, scored with what it was not trained on;
"trained on others' sound" has had the sound of another clip in training as well, so that nothing but chance
is left of what it could add.

## Limits

One room, figures without faces or objects in their hands, voices without words. Nobody reacts to anybody.
Absolute average precisions mean nothing elsewhere. What the sound adds is authored: the table above has what
small networks make of it. With {rarest} positives of the rarest class in validation, one clip moves its average
precision by tens of points and the macro mean by some: compare over seeds, in pairs, and look at
`map_micro` beside it.

## Licence and origin

Recordings, sounds and lists are produced by this project's code and are under the project's MIT licence; no
asset is copied. The names of the behaviours and the layout are those of MPIIGroupInteraction and its
behaviour challenge (which need a signed agreement); none of its pictures, sounds or rows is here.

## Making it again

    pip install -e '.[simulate]'
    python -m cm3t.data.rooms group

Generator version {generator}; made with {versions}. Scripts, labels and sounds follow from the seed
anywhere; pixels are equal on one machine and within a tolerance elsewhere, so that these files are the
reference. Digest (sha256 over clips, sounds and lists): `{digest}`.
Records of runs hold the reader's own digest, over what a run reads (`MpiiGroupInteraction.digest`).

The dials, as in `rooms.json`:

{dials}
"""
