"""Files to waveforms (C, T) and back: probe, read, stream, write, resample, adapt channels."""

from sepkit.audio.conversion import Resampler, adapt_channels, resample
from sepkit.audio.info import AudioError, AudioInfo, Damage, changed, check_unchanged, describe_damage, vanished
from sepkit.audio.packed import PackedInfo
from sepkit.audio.probing import SUFFIXES, is_audio_name, probe
from sepkit.audio.reading import AudioReader, read, read_streams, stream_blocks
from sepkit.audio.writing import AudioWriter, write

__all__ = [
    "SUFFIXES", "AudioError", "AudioInfo", "AudioReader", "AudioWriter", "Damage", "PackedInfo", "Resampler",
    "adapt_channels", "changed", "check_unchanged", "describe_damage", "is_audio_name", "probe", "read",
    "read_streams", "resample", "stream_blocks", "vanished", "write",
]  # fmt: skip
