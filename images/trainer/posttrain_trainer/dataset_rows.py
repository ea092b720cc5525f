"""The rows of a dataset, wherever they come from: a file, another run, or a package."""

from posttrain_api.trainer_contract import Source
from posttrain_api.v1alpha1.environment import Dataset
from posttrain_trainer import data
from posttrain_trainer.data import Parse, Rows
from posttrain_trainer.packages import named
from posttrain_trainer.places import Places


def read(dataset: Dataset, places: Places, parse: Parse, source: Source | None = None) -> Rows:
    """The rows that can be used; Refused names what is wrong. `source` is the run that made them, if one did."""
    if dataset.package is not None:
        return data.parsed(dataset.package, named.content(dataset), parse, dataset)
    name, path = places.dataset(dataset, source)
    return data.read(name, path, parse, dataset)
