//! The weights of Winograd's algorithm F(2x2, 3x3).

/// Elements of the transformed weights of one input and output channel.
pub(super) const AREA: u32 = 16;

/// G g G^T of each 3x3 window g, one after the other; G has the rows (1, 0, 0), (1, 1, 1) / 2, (1, -1, 1) / 2, (0, 0, 1).
pub(super) fn transformed(weight: &[f32]) -> Vec<f32> {
    let (windows, _) = weight.as_chunks::<9>();
    windows.iter().flat_map(of_window).collect()
}

fn of_window(window: &[f32; 9]) -> [f32; 16] {
    let times_g = |[a, b, c]: [f32; 3]| [a, (a + b + c) / 2.0, (a - b + c) / 2.0, c];
    // Down the columns, then along the rows.
    let columns: [[f32; 4]; 3] = std::array::from_fn(|x| times_g([window[x], window[x + 3], window[x + 6]]));
    let rows: [[f32; 4]; 4] = std::array::from_fn(|y| times_g(columns.map(|column| column[y])));
    std::array::from_fn(|at| rows[at / 4][at % 4])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Worked out by hand, and 2x2 outputs of 4x4 elements by the matrices of the paper against the plain sums.
    #[test]
    fn weights_are_those_of_the_paper() {
        let ones = transformed(&[1.0; 9]);
        assert_eq!(ones, [1., 1.5, 0.5, 1., 1.5, 2.25, 0.75, 1.5, 0.5, 0.75, 0.25, 0.5, 1., 1.5, 0.5, 1.]);
        let corner = transformed(&[0., 0., 0., 0., 0., 0., 0., 0., 4.]);
        assert_eq!(corner, [0., 0., 0., 0., 0., 1., 1., 2., 0., 1., 1., 2., 0., 2., 2., 4.]);

        let window: [f32; 9] = [3., -1., 4., 1., -5., 9., 2., -6., 5.];
        let elements: [[f32; 4]; 4] = [[2., 7., -1., 8.], [2., 8., -1., 8.], [-2., 8., 4., 5.], [9., 0., -4., 5.]];
        let b = [[1., 0., -1., 0.], [0., 1., 1., 0.], [0., -1., 1., 0.], [0., 1., 0., -1.]];
        let a = [[1., 1., 1., 0.], [0., 1., -1., -1.]];
        let sum = |of: &dyn Fn(usize) -> f32| (0..4).map(of).sum::<f32>();
        let v = |i: usize, j: usize| sum(&|y| b[i][y] * sum(&|x| elements[y][x] * b[j][x]));
        let u = transformed(&window);
        let m = |i: usize, j: usize| u[i * 4 + j] * v(i, j);
        for (y, x) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let output = sum(&|i| a[y][i] * sum(&|j| m(i, j) * a[x][j]));
            let plain: f32 = (0..9).map(|tap| window[tap] * elements[y + tap / 3][x + tap % 3]).sum();
            assert_eq!(output, plain, "at {y}, {x}");
        }
    }
}
