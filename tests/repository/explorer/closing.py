"""What is left when everybody has stopped: the repository must work on as if nothing had been."""

from __future__ import annotations

from stillframe.repository.collection import collect_steps
from stillframe.repository.entries import CHECKPOINT_FOLDER
from stillframe.repository.errors import DamagedError
from stillframe.repository.operations import drive
from stillframe.repository.storage.base import StorageError
from tests.repository.explorer.actors import content, knowledge_of, point_id, read_point, run, writer
from tests.repository.explorer.oracle import Content, Oracle, TeachingStorage, View, WrongError
from tests.repository.explorer.places import Place, Places
from tests.repository.storage.memory import MemoryStorage

COLLECTIONS = 2
_AFTERWARDS = "after", "zA"


class Closing:
    """Restores all points, writes one more, collects, and looks at what is left."""

    def __init__(self, oracle: Oracle, contents: dict[str, Content], *, converges: bool) -> None:
        self._oracle = oracle
        self._contents = contents
        self._converges = converges
        self._seen: set[Place] = set()
        name, letters = _AFTERWARDS
        contents[point_id(name)] = content(letters)

    @property
    def judged(self) -> int:
        return len(self._seen)

    def judge(self, place: Place, *, may_be_stuck: bool) -> None:
        """Raises WrongError if the repository does not go on."""
        if place in self._seen:
            return
        self._seen.add(place)
        view = self._oracle.view(place)
        storage = TeachingStorage(place.objects, self._oracle)
        if view.stuck:
            self._judge_stuck(storage, place, may_be_stuck)
            return
        try:
            self._go_on(storage, view)
        except (DamagedError, StorageError) as error:
            raise WrongError(f"afterwards: {error}") from error

    def _judge_stuck(self, storage: MemoryStorage, place: Place, may_be_stuck: bool) -> None:
        """Half an entry was put: everybody says so, and nobody touches anything."""
        if not may_be_stuck:
            raise WrongError("the log has an entry that nobody can read")
        try:
            drive(collect_steps(knowledge_of("closing")), storage)
        except DamagedError:
            if storage.objects == place.objects:
                return
        raise WrongError("a collection went on over a damaged log")

    def _go_on(self, storage: MemoryStorage, view: View) -> None:
        self._restore(storage, view)
        run(writer(*_AFTERWARDS), storage)
        for number in range(COLLECTIONS):
            drive(collect_steps(knowledge_of(f"closing {number}")), storage)
        place = Places({}).of(storage.objects)
        after = self._oracle.view(place)
        self._oracle.require_all(place, after)
        self._restore(storage, after)
        if self._converges:
            self._require_tidy(place, after)

    def _restore(self, storage: MemoryStorage, view: View) -> None:
        for name in view.points:
            if read_point(storage, knowledge_of("closing reader"), name) != self._contents[name]:
                raise WrongError(f"point {name} comes back wrong")

    def _require_tidy(self, place: Place, view: View) -> None:
        known = {name for name in place.objects if name.startswith(("log/", "config", CHECKPOINT_FOLDER))}
        if left := place.objects.keys() - known - view.needed:
            raise WrongError(f"two collections leave {sorted(left)}, which nobody needs")
        copies = list(self._oracle.blobs_of(sorted(view.segments)))
        if len(copies) != len(set(copies)):
            raise WrongError("two collections leave blobs stored twice")
        if dead := set(copies) - self._oracle.live_blobs(view):
            raise WrongError(f"two collections leave {len(dead)} blobs that nothing reaches")
