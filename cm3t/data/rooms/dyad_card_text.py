"""The words of rooms-dyad's data card; `dyad_card.render` fills in the numbers."""

TEXT = """\
# rooms-dyad: data card

An embedded, **synthetic** stand-in for UDIVA v0.5: {people} rendered participants meet in pairs, in {sessions}
sessions of four tasks (talk, animals, lego, ghost), each seen by a camera of his own with sound, with a
transcript; {recordings} recordings, {minutes} minutes. The targets are five personality traits (OCEAN
z-scores). It is written in the real set's layout, so that the real reader runs on it. It exists to compare
*methods* under controlled difficulty; it says nothing about real people, and nothing about personality.

## Splits

{splits}

Splits share no person. Participants of `tune` (`train/metadata/tune_participant_ids.csv`) meet only each
other; they are for learning rates. A run scores validation once. A clip is a window of 6
seconds of one person in one task; predictions are averaged over a session's task and then over the person, and
errors are taken over persons, as the official evaluation does. With 15 persons in validation and in test,
differences below about 0.1 mean nothing.

## Format

* `SPLIT/recordings/TASK_recordings_SPLIT/SESSION/FC1_T.mp4`: H.264, {size} x {size} pixels, {fps} frames a second
  (crf {crf}, a key frame every {gop}), mono Opus, synthesised at {rate} Hz, {bitrate} bit/s; tasks last {seconds}
  seconds on average. FC1 shows PART.1, FC2 shows PART.2; T, A, L and G are the tasks. Together {megabytes} MB.
* `SPLIT/transcriptions/SESSION/SESSION_TASK.srt`: UTF-8 with a byte order mark, lines `PART.1: text`, `PART.2:`,
  `SUPERVISOR:`; cues may overlap. {utterances} utterances of {length} words.
* `SPLIT/metadata/`: sessions, participants (traits of val and test in `parts_SPLIT_unmasked.csv`),
  `task_limits.json`. IDs are text with leading zeros. All sessions are in English.
* Inhomogeneous on purpose: {formats};
  longer clips than the other rooms'; tasks of different length; some tasks were recorded without sound, some have
  no transcript.

## What was authored

Everything; the cues are there because the generator puts them there.

* *Traits*: normal, with the correlations published for the bfi questionnaire ({correlations}); mean and
  covariance are exact within each split, so that the mean predictor errs by 1 on every trait.
* *Cues*: seven per person, each of one trait plus noise that stays with the person; correlation of a cue with its
  trait {strengths}. The body's and the voice's vary a little from session to session.
* *Words* carry openness and conscientiousness, and almost nothing else does: every sentence speaks for one pole of
  one of the two, drawn by a logistic curve of the cue. Sentences come from our own grammar (48 clauses, 40
  topics); nobody denies anything: who is low on a trait says what the low pole says. A fifth of the sentences have
  an opener that leans weakly on extraversion, agreeableness or negative emotionality.
* *Voice*: speech synthesis, a voice per person; speed, loudness and share of turns follow extraversion, pitch range
  and hesitations negative emotionality. A track is its person's own microphone: the other is heard at {partner}
  of the loudness.
* *Body*: size of gestures follows extraversion, self-touches negative emotionality, lean and nods agreeableness.
  Extraversion and negative emotionality are therefore seen *and* heard, with independent noise: together they
  tell more.
* Looks, clothes, rooms, cameras and voices are drawn at random and mean nothing.
* *Not physics*: people are capsules moved by smooth curves.

## Difficulty

Mean squared error over participants, per trait and their mean, on validation unless a column says otherwise; mean
± standard deviation over seeds. Lower is better; 1 is chance.

{difficulty}

{unmeasured}{standing}{worth}Controls: the joint regression, scored with one input from another person
(shuffled), or held at its mean (muted). "And words of another person" had them in training as well, so that nothing
but chance is left of what they could add.

{controls}

Probes are ridge regressions, their penalty chosen on tune, unless the row says network; those have one recipe and
no tuning. The dials that set the difficulty, and the simple numbers that stand for pictures, were settled with such
probes on all held-out splits in view: the table describes the data, it is no result. With so few persons in train, a
network from scratch on pictures learns their looks and clothes, and is worse than chance on new persons. Where it
is better than chance on some of them, as one frame is at openness on validation and nowhere else, that is 15 people's
accident. The joint regression's own numbers do not vary with the seed, its controls do.

## Limits

Few people: intervals over participants are wide, and a probe's seeds say nothing about them. Complementarity is
authored: what a modality adds is bounded by the cues above. Words are simpler than people's, gestures fewer, faces
do not move. By the draw every recording of validation has its sound: what a missing one costs shows there only
where it is taken away. Picture sizes and frame rates of the three rooms lie closer than those of real sets.
Absolute errors mean nothing elsewhere.

## Licence and origin

The recordings, sounds, transcripts and tables are produced by this project's code and are under the project's MIT
licence. Speech was synthesised with espeak-ng (GPL-3; only its sound is here). The trait correlations are those
published for the bfi data; no person's answers are here, and no questionnaire's sentences. The layout is that of
UDIVA v0.5; none of its data is here.

## Making it again

    pip install -e '.[simulate]'        # and the system package espeak-ng
    python -m cm3t.data.rooms dyad

Generator version {generator}; made with {versions}. Scripts and transcripts follow from the seed and the
synthesiser's version; pixels and sound are equal on one machine and within a tolerance elsewhere, so that these files
are the reference. Digest (`Udiva.digest`): `{digest}`.

The dials, as in `rooms.json`:

{dials}
"""
