"""A property that is computed once, without a lock."""

from collections.abc import Callable
from typing import Any, Generic, Self, TypeVar, overload

__all__ = ["remembered"]

T = TypeVar("T")


class remembered(Generic[T]):  # noqa: N801 - it is used as a decorator
    """A property that is computed when first read, and then cached in the instance.

    Python 3.11's `functools.cached_property` has one lock for all instances: if a process forks
    while another thread holds it, the child waits for ever. Here, two threads that read at the same
    time both compute, so use it only where repeated computations give equal values.

    >>> class Circle:
    ...     radius = 2
    ...     @remembered
    ...     def area(self) -> float:
    ...         return 3.14 * self.radius**2
    >>> Circle().area
    12.56
    """

    def __init__(self, compute: Callable[[Any], T]) -> None:
        self._compute = compute
        self.__doc__ = compute.__doc__
        # So that doctest finds and runs the example.
        self.__module__, self.__wrapped__ = compute.__module__, compute

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...

    @overload
    def __get__(self, instance: object, owner: type) -> T: ...

    def __get__(self, instance: object | None, owner: type) -> Self | T:
        if instance is None:
            return self
        value = self._compute(instance)
        instance.__dict__[self._name] = value  # found before this descriptor from now on
        return value
