"""Everything that can be wrong, as one small tree.

HeadstartError
├── ParamsError      params.yaml: a key is missing, misspelt or out of range
├── DataError        the data set cannot be read as one
│   └── DataRejected the data set can be read, and is not fit to train on
├── ArtifactError    a stored artifact is missing, broken or of another version
├── DiskError        a disk is full, or may not be written to
├── MemoryLimitError not enough memory
├── BackboneError    unknown backbone, or weights that cannot be found or do not fit
├── BudgetError      no candidate for the student is fast and small enough
├── TrainingError    training cannot go on
│   ├── Diverged     the loss is no longer finite
│   └── FrozenWeightsChanged a frozen parameter or buffer has changed
├── ProcessError     of several processes on one phase, one is lost or works on something else
├── TrackerError     the MLflow server, or what it stands on, does not answer
├── RegistryError    the model registry is not in a state that promotion can work with
│   └── ModelLostError the files of a registered version are gone
└── ClusterError     a scheduler refused or lost a job

A message says what was found, what was expected and what to do, and names the file or key.
"""


class HeadstartError(Exception):
    """Base of every error that is raised on purpose."""


class ParamsError(HeadstartError):
    """Raised before any work, with every mistake of the file at once."""


class DataError(HeadstartError):
    """Raised when a folder, manifest or sample cannot be understood."""


class DataRejected(DataError):
    """Raised when a critical check of the data set fails."""


class ArtifactError(HeadstartError):
    """Raised when a stored artifact is missing, broken or of another version."""


class DiskError(HeadstartError):
    """Raised before a disk would be full, when one is, and where nothing may be written."""


class MemoryLimitError(HeadstartError):
    """Raised when the machine gives no more memory."""


class BackboneError(HeadstartError):
    """Raised for an unknown backbone and for weights that are missing or do not fit."""


class BudgetError(HeadstartError):
    """Raised before a student is trained, when no candidate fits what it may cost."""


class TrainingError(HeadstartError):
    """Base of what can go wrong while training."""


class Diverged(TrainingError):
    """Raised at the first loss that is not finite."""


class FrozenWeightsChanged(TrainingError):
    """Raised when something frozen has changed: the cache would no longer be true."""


class ProcessError(HeadstartError):
    """Raised where processes that compute one result cannot go on together."""


class TrackerError(HeadstartError):
    """Raised when runs cannot be recorded: nothing that cannot be traced is made."""


class RegistryError(HeadstartError):
    """Raised when the model registry is in a state that promotion cannot work with."""


class ModelLostError(RegistryError):
    """Raised where the files of a registered version are gone, or are not what they were."""


class ClusterError(HeadstartError):
    """Raised when a scheduler has refused, lost or ended a job."""
