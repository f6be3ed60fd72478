"""Functions on a class: each as the kind of attribute that the method was."""

import functools

import pytest

from course_lib.mounting import calls_bare_super, function_of, mount


class Base:
    def size(self):
        return 1


class Box(Base):
    """A box."""

    def __init__(self, width):
        self.width = width

    def size(self):
        return 10 + super().size()

    def other(self):
        return self.size()

    @property
    def wide(self):
        return self.width > 1

    @functools.cached_property
    def area(self):
        return self.width**2

    @classmethod
    def of(cls, text):
        return cls(int(text))

    @staticmethod
    def unit():
        return "m"


@pytest.mark.parametrize("name", ["__init__", "size", "wide", "area", "of", "unit"])
def test_the_function_behind_each_kind_of_method_is_found(name):
    assert function_of(Box, name).__name__ == name


@pytest.mark.parametrize("name", ["width", "__doc__", "missing", "__len__"])
def test_what_the_class_does_not_define_itself_is_refused(name):
    with pytest.raises(ValueError, match=rf"Box does not define a method '{name}' itself; it de"):
        function_of(Box, name)


def test_an_inherited_method_belongs_to_the_class_that_defines_it():
    with pytest.raises(ValueError, match="does not define a method 'size' itself"):
        function_of(type("Small", (Box,), {}), "size")


def test_a_mounted_function_is_used_by_the_rest_of_the_class_and_the_class_is_unchanged():
    mounted = mount(Box, {"size": lambda self: 7 * self.width})
    assert (mounted(2).other(), Box(2).other()) == (14, 11)
    assert issubclass(mounted, Box)
    assert (mounted.__name__, mounted.__doc__) == ("Box", "A box.")


def test_a_mounted_function_is_the_kind_of_attribute_that_the_method_was():
    mounted = mount(
        Box,
        {
            "wide": lambda self: self.width > 5,
            "area": lambda self: [self.width],
            "of": lambda cls, text: cls(len(text)),
            "unit": lambda: "cm",
        },
    )
    box = mounted.of("abc")
    assert type(box) is mounted
    assert (box.width, box.wide, box.area, mounted.unit()) == (3, False, [3], "cm")
    assert box.area is box.area, "a cached property is worked out once"


def test_a_further_base_comes_between_the_class_and_its_bases():
    mounted = mount(Box, {}, [mount(Base, {"size": lambda self: 5})])
    assert mounted(1).size() == 15


def test_super_without_arguments_is_refused_with_the_way_out():
    def size(self):
        return super().size()

    box = mount(Box, {"size": size})(1)
    with pytest.raises(TypeError, match=r"size calls super\(\).*write super\(Box, self\)"):
        box.other()


def test_super_with_arguments_starts_above_the_reference():
    def size(self):
        return 100 + super(Box, self).size()

    assert mount(Box, {"size": size})(1).size() == 101


def test_super_in_a_class_knows_where_it_is():
    assert not calls_bare_super(Box.size)
    assert calls_bare_super(lambda self: [super().size() for _ in range(2)])


class Doubles:
    def __call__(self, box, by=2):
        return by * box.width


@pytest.mark.parametrize(
    "answer", [Doubles(), functools.partial(lambda box, by: by * box.width, by=2)]
)
def test_what_can_be_called_is_told_whose_method_it_is(answer):
    assert mount(Box, {"size": answer})(4).size() == 8


def test_what_cannot_be_called_stays_as_it_is():
    assert mount(Box, {"size": 7})(4).size == 7
