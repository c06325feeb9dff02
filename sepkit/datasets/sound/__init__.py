"""What is wrong with the sound of files, of songs, of sets of songs, found in what was measured."""
