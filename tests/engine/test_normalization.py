@FEW
@given(st.sampled_from([1, 3, 5, 7]), st.floats(0.125, 3, width=32), st.floats(0.125, 2, width=32),
       st.floats(0.5, 4, width=32), st.sampled_from(["ACROSS_CHANNELS", "WITHIN_CHANNEL"]),
       st.tuples(*[st.integers(1, most) for most in (2, 8, 6, 6)]))
def test_lrn(size, alpha, beta, k, region, shape):
    text = f"lrn_param {{ local_size: {size} alpha: {alpha} beta: {beta} k: {k} norm_region: {region} engine: CAFFE }}"
    compare.run(net("LRN", text, shape), drawn(7, shape))


def test_alpha_of_lrn_is_divided_by_the_size():
    data = np.array([1., 2, 3, 4]).reshape(1, 4, 1, 1)
    outputs = compare.run(net("LRN", "lrn_param { local_size: 3 alpha: 3 beta: 1 k: 2 }", data.shape),
                          {"data0": data}).outputs["top0"]
    np.testing.assert_allclose(outputs.ravel(), [1 / 7, 2 / 16, 3 / 31, 4 / 27], rtol=1e-6)


def test_lrn_refused():
    compare.refused(net("LRN", "lrn_param { local_size: 4 }", (1, 2, 3, 3)), "local_size 4, expected an odd number")
    compare.refused(net("LRN", "", (1, 2, 3)), "the shape (1, 2, 3), expected 4 axes")
