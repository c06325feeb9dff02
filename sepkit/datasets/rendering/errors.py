"""What keeps a piece from being rendered."""


class RenderingError(Exception):
    """A MIDI file, a sound font or FluidSynth cannot be used."""
