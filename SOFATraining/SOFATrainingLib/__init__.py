"""What training does to a MRML scene and to the processes beside it. No Qt, no torch.

Whoever shows a training needs three things::

    from SOFATrainingLib.controller import TrainingController
    from SOFATrainingLib.state import TrainingState

    controller = TrainingController(scheduler)
    controller.follow(TrainingState.fromScene(scene))
    controller.start()                       # checks the cases, prepares them, trains; all in processes of their own

`scheduler` is a `SOFASegmentLib.scheduler.Scheduler`. This package imports nothing when it is imported itself, because
`SOFATrainingLib.checking` also runs as a program outside Slicer.

Modules
    state        what the scene remembers: dataset, start, what to train, the run; node references of curves and preview
    case_folder  a corrected case of the scene -> a folder of the dataset, never over another one
    checking     the program that says what is wrong with which case; cases: its answer as rows of a table
    plan         the user's choices -> configuration, folds and folders of a run, wrong ones refused with a sentence
    child        one process and its tree: start, find again, ask to stop, end
    watch        looks after a process from time to time; stages: checking and preparing a dataset, each in a process
    run          one run of `sofa train`: started or found again, followed, asked to stop
    follow       the run's log -> where it stands, the points of its curves, the time left
    curves       tables, series and charts of loss and Dice; views: the layout that shows them beside the preview
    preview      a validation slice with truth and prediction, as volume and segmentations
    card         what a finished checkpoint says of itself
    controller   puts these together: check, start, pause, resume, stop
"""
