"""Completes what pyproject.toml says: an editable installation gets its data files too."""

from setuptools import Distribution, setup


class DistributionWithData(Distribution):
    """Answers what setuptools asks before it installs data files, and does not define itself."""

    def has_data(self) -> bool:
        """Say whether there are data files."""
        return bool(self.has_data_files())


setup(distclass=DistributionWithData)
