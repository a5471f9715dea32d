"""Cannot be imported where there is no such package."""
import a_package_that_no_one_has  # noqa: F401
