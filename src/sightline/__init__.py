"""sightline: post-train a vision-language model, and know whether it helped."""

from sightline.records import Answer, Message, Picture, PreferencePair, Sample, Score
from sightline.study import Study, load_study

__all__ = ["Answer", "Message", "Picture", "PreferencePair", "Sample", "Score", "Study", "load_study"]
