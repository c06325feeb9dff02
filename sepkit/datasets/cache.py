"""The cache under the name that it had: `sepkit.cache`."""

from sepkit.cache import cache_directory, writing_to_cache

__all__ = ["cache_directory", "writing_to_cache"]
