"""The learner's side: their copies of the lessons, their parts, JupyterLab around them."""
