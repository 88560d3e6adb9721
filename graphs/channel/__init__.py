"""Orders and numbers of channels: shuffles absorbed, blocks of channels filled."""
