"""Current and former edges."""

from typing import Any

import pytest

from consent.policy import CyclicPolicy, PolicyTooLarge, UnknownParent
from tests.unit.consent.policy.policies import make_policy


def former(name: str, version: int) -> dict[str, Any]:
    return {"name": name, "dropped_in_version": version}


@pytest.mark.parametrize(
    ("parents", "way"),
    [
        ({"a": ["a"]}, "a -> a"),
        ({"a": ["b"], "b": ["a"]}, "a -> b -> a"),
        ({"x": ["b"], "b": ["c"], "c": ["a"], "a": ["b"]}, "a -> b -> c -> a"),
        ({"root": [], "b": ["root", "c"], "c": ["b"], "below": ["c"]}, "b -> c -> b"),
    ],
)
def test_graph_cycle_is_refused_with_the_way_round(parents: dict[str, list[str]], way: str) -> None:
    with pytest.raises(CyclicPolicy) as caught:
        make_policy({name: {"parents": above} for name, above in parents.items()})
    assert caught.value.message.endswith(f": {way}")
    assert caught.value.path == ("purposes", way[0], "parents")


def test_graph_long_cycle_is_refused_and_cut_in_the_text() -> None:
    with pytest.raises(CyclicPolicy) as caught:
        make_policy({f"p{i:04}": {"parents": [f"p{(i + 1) % 3000:04}"]} for i in range(3000)})
    assert "(3000 purposes)" in str(caught.value)
    assert len(str(caught.value)) < 400


def test_graph_deep_chain_within_limits_is_accepted() -> None:
    policy = make_policy({f"p{i}": {"parents": [f"p{i - 1}"] if i else []} for i in range(900)})
    assert len(policy.ancestors("p899")) == 899
    assert len(policy.descendants("p0")) == 899


def test_graph_too_many_relations_is_refused() -> None:
    with pytest.raises(PolicyTooLarge):
        make_policy({f"p{i}": {"parents": [f"p{i - 1}"] if i else []} for i in range(2000)})


def test_graph_too_many_former_relations_is_refused() -> None:
    with pytest.raises(PolicyTooLarge):
        make_policy(
            {f"p{i}": {"former_parents": [former(f"p{i - 1}", 1)] if i else []} for i in range(1100)}, version=1
        )


def test_former_parent_reaches_upwards_with_its_version() -> None:
    policy = make_policy(
        {"top": {}, "middle": {"parents": ["top"]}, "low": {"former_parents": [former("middle", 3)]}}, version=4
    )
    assert policy.former_ancestors("low") == (("middle", 3), ("top", 3))
    assert policy.former_descendants("top") == (("low", 3),)
    assert policy.ancestors("low") == frozenset()


def test_former_parent_of_an_ancestor_counts_for_those_below() -> None:
    policy = make_policy(
        {"top": {}, "middle": {"former_parents": [former("top", 2)]}, "low": {"parents": ["middle"]}}, version=2
    )
    assert policy.former_ancestors("low") == (("top", 2),)


def test_former_path_takes_its_smallest_version_and_the_largest_over_paths() -> None:
    policy = make_policy(
        {
            "top": {},
            "left": {"former_parents": [former("top", 5)]},
            "right": {"former_parents": [former("top", 4)]},
            "low": {"former_parents": [former("left", 2), former("right", 7)]},
        },
        version=7,
    )
    assert policy.former_ancestors("low") == (("left", 2), ("right", 7), ("top", 4))


def test_former_ancestor_that_is_a_current_one_is_not_repeated() -> None:
    policy = make_policy(
        {
            "top": {},
            "middle": {"parents": ["top"]},
            "low": {"parents": ["top"], "former_parents": [former("middle", 2)]},
        },
        version=2,
    )
    assert policy.former_ancestors("low") == (("middle", 2),)


def test_former_edge_may_close_a_cycle_with_current_ones() -> None:
    policy = make_policy({"a": {"former_parents": [former("b", 2)]}, "b": {"parents": ["a"]}}, version=2)
    assert policy.former_ancestors("a") == (("b", 2),)
    assert policy.former_ancestors("b") == ()
    assert policy.ancestors("b") == {"a"}


def test_unknown_parent_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UnknownParent) as caught:
        make_policy({"marketing": {}, "newsletter": {"parents": ["markting"]}})
    assert str(caught.value) == ("purposes.newsletter.parents[0]: unknown parent 'markting'; did you mean 'marketing'?")


def test_unknown_former_parent_is_refused() -> None:
    with pytest.raises(UnknownParent) as caught:
        make_policy({"newsletter": {"former_parents": [former("gone", 1)]}})
    assert caught.value.path == ("purposes", "newsletter", "former_parents", 0, "name")
