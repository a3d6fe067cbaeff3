from hypothesis import given
from hypothesis import strategies as st

from deepclust.evaluation.head_choice import choose_heads

# Few values, so that there are equal ones.
CRITERION = st.none() | st.sampled_from([-0.5, 0.0, 0.25]) | st.floats(-1, 1)
RUN = st.tuples(st.integers(0, 3), CRITERION, st.none() | st.floats(0, 1))


def columns(runs):
    return zip(*runs) if runs else ((),) * 4


@given(st.lists(RUN, max_size=12))
def test_the_choice_sees_no_accuracy_and_the_oracle_nothing_else(runs):
    settings, criterion, accuracy = zip(*runs) if runs else ((), (), ())
    names = [f"head{number}" for number in range(len(runs))]
    choices = choose_heads(settings, names, criterion, accuracy)
    blind = choose_heads(settings, names, criterion, [None] * len(runs))
    assert [(c.compared, c.chosen) for c in choices] == [(c.compared, c.chosen) for c in blind]
    for choice in choices:
        assert len({settings[position] for position in choice.compared}) == 1 < len(choice.compared)
        assert criterion[choice.chosen] == max(criterion[position] for position in choice.compared)
        known = [accuracy[position] for position in choice.compared if accuracy[position] is not None]
        assert (accuracy[choice.best] == max(known)) if known else (choice.best is None)
    compared = [position for choice in choices for position in choice.compared]
    assert len(compared) == len(set(compared))


@given(st.lists(RUN, max_size=12), st.data())
def test_the_order_of_the_runs_has_no_say(runs, data):
    """Tables rank runs by accuracy: an order that counted would let labels decide between equal ones."""
    runs = [(setting, f"head{number}", *scores) for number, (setting, *scores) in enumerate(runs)]
    shuffled = data.draw(st.permutations(runs))

    def chosen(runs):
        return {
            (runs[choice.chosen], runs[choice.best] if choice.best is not None else None)
            for choice in choose_heads(*columns(runs))
        }

    assert chosen(runs) == chosen(shuffled)
