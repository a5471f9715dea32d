"""The figures that the papers print. This package does not depend on data or nets."""
