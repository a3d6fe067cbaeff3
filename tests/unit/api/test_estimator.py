"""`Clusterer` is an estimator of scikit-learn."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import make_blobs
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import deepclust


@parametrize_with_checks([deepclust.Clusterer(n_clusters=3, seeds=1)])
def test_checks_of_scikit_learn(estimator, check):
    check(estimator)


def test_in_a_pipeline():
    features, classes = make_blobs(60, centers=3, random_state=0, cluster_std=0.2)
    pipeline = make_pipeline(StandardScaler(), deepclust.Clusterer(n_clusters=3, seeds=1))
    labels = pipeline.fit_predict(features)
    assert np.array_equal(pipeline.predict(features), labels)
    assert deepclust.score(classes, labels)["ari"] == 1
    scoring = lambda fitted, X, y: deepclust.score(y, fitted.predict(X))["acc"]  # noqa: E731
    search = GridSearchCV(pipeline, {"clusterer__n_clusters": [2, 3]}, scoring=scoring, cv=2).fit(features, classes)
    assert search.best_params_ == {"clusterer__n_clusters": 3}


def test_parameters():
    clusterer = deepclust.Clusterer(head="gmm", n_clusters=4)
    assert clusterer.get_params() == {"head": "gmm", "n_clusters": 4, "seeds": 5, "options": None}
    assert clone(clusterer.set_params(seeds=[3])).seeds == [3]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"head": "kmean"}, "did you mean 'kmeans'"),
        ({"n_clusters": 99}, "99 clusters need at least 99 images"),
        ({"options": {"n_inits": 1}}, "no option 'n_inits'"),
    ],
)
def test_bad_parameters_are_value_errors(parameters, message):
    with pytest.raises(ValueError, match=message):
        deepclust.Clusterer(**parameters).fit(np.eye(9))
